"""What access tokens allow, and how clients learn where to get one (RFC 9728 and RFC 6750)."""

from collections.abc import Collection
from typing import Any

from flask import current_app

from config import Config
from todo.auth.tokens import Caller
from todo.http.problems import InsufficientScope

READ, WRITE = "tasks:read", "tasks:write"
SCOPES = (READ, WRITE)

METADATA_PATH = "/.well-known/oauth-protected-resource"


def metadata(config: Config) -> dict[str, Any] | None:
    """Return the metadata of the protected resource (RFC 9728, section 2); None where there are no access tokens."""
    if config.resource is None:
        return None
    return {
        "resource": config.resource,
        "authorization_servers": [config.authorization_server],
        "scopes_supported": list(SCOPES),
        "bearer_methods_supported": ["header"],
        "resource_name": "todo",
    }


def challenge(plain: str, scopes: Collection[str]) -> str:
    """Return a challenge with the address of the metadata and the scopes to request, where there are access tokens.

    Args:
        plain: The challenge by itself.
        scopes: The scopes.

    """
    config: Config = current_app.extensions["config"]
    if config.resource is None:
        return plain
    separator = "," if "=" in plain else ""
    address = f"{config.public_url}{METADATA_PATH}/mcp"
    return f'{plain}{separator} resource_metadata="{address}", scope="{" ".join(scopes)}"'


def allows(caller: Caller, scope: str) -> bool:
    """Return whether the caller's token allows what needs a scope; that of the user's own front-end allows all."""
    return caller.scopes is None or scope in caller.scopes


def check_scope(caller: Caller, scope: str) -> None:
    """Check that the caller's token allows what needs a scope.

    Raises:
        InsufficientScope: It does not. Clients replace what they have by the scopes of the challenge, so for a write
            these are both.

    """
    if not allows(caller, scope):
        needed = challenge('Bearer error="insufficient_scope"', SCOPES if scope == WRITE else (scope,))
        detail = f"The access token does not allow this: it lacks the scope {scope}."
        raise InsufficientScope(detail, reason=f"no scope {scope}", headers={"WWW-Authenticate": needed})
