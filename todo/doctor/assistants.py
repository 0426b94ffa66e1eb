"""The checks of what assistants need to find their way from the address of the tools to an access token."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from config import Config
from todo.auth import access, fetch
from todo.auth.rules import describe
from todo.doctor.results import Result, failed, passed, warning

# Where an issuer may describe itself (RFC 8414, section 3.1; OpenID Connect Discovery 1.0, section 4.1), in the order
# in which clients look.
ISSUER_METADATA = (
    "{origin}/.well-known/oauth-authorization-server{path}",
    "{origin}/.well-known/openid-configuration{path}",
    "{origin}{path}/.well-known/openid-configuration",
)

PLUGIN = "the plugin mcp() of Better Auth"
REGISTER = (
    "Without it most assistants cannot begin, and some say nothing of it. Add cimd() to Better Auth, or let clients "
    "register with allowDynamicClientRegistration and allowUnauthenticatedClientRegistration of mcp()."
)


def check_assistants(config: Config) -> Iterator[Result]:
    """Report whether assistants find the tools, the issuer of access tokens, and a way to register with it."""
    if config.public_url is None:
        remedy = "Set PUBLIC_URL to the address of this service, such as https://api.example.com."
        if config.production:
            yield failed("tools", "are not served, as PUBLIC_URL is not set", remedy)
        else:
            yield warning("tools", "are served at /mcp, for pasted tokens alone, as PUBLIC_URL is not set", remedy)
        return
    yield passed("tools", f"{config.public_url}/mcp")
    if config.resource is None or config.authorization_server is None:
        remedy = "Set BETTER_AUTH_URL, so that assistants can sign users in; a shared secret signs no access tokens."
        yield warning("access tokens", "none, as BETTER_AUTH_URL is not set: tokens are pasted", remedy)
        return
    yield from _check_metadata(config, config.public_url)
    yield from _check_issuer(config, config.authorization_server)
    yield _check_audience(config.resource, config.authorization_server)


def _check_metadata(config: Config, public_url: str) -> Iterator[Result]:
    """Report whether clients read the metadata of the tools, as the challenge and as the standard say."""
    origin, path = _split(public_url)
    for url in dict.fromkeys((f"{public_url}{access.METADATA_PATH}/mcp", f"{origin}{access.METADATA_PATH}{path}/mcp")):
        remedy = f"Start the service, and let the proxy in front pass on {urlsplit(url).path} and /mcp to it."
        try:
            found = _read(url)
        except fetch.FetchFailed as error:
            yield failed("metadata", f"{url}: {error}", remedy)
            continue
        if found == access.metadata(config):
            yield passed("metadata", url)
        else:
            yield failed("metadata", f"{url} is not that of this service with these settings", remedy)


def _check_issuer(config: Config, issuer: str) -> Iterator[Result]:
    """Report what the issuer says of itself."""
    origin, path = _split(issuer)
    faults = []
    for template in ISSUER_METADATA:
        url = template.format(origin=origin, path=path)
        try:
            found = _read(url)
        except fetch.FetchFailed as error:
            faults.append(f"{url}: {error}")
            continue
        yield passed("issuer", url)
        yield from _check_issuer_metadata(config, issuer, found)
        return
    remedy = f"Add {PLUGIN} with jwt(), and let the proxy in front pass on {origin}/.well-known/ to it."
    yield failed("issuer", f"does not describe itself ({faults[0]})", remedy)


def _check_issuer_metadata(config: Config, issuer: str, found: Mapping[str, Any]) -> Iterator[Result]:
    if found.get("issuer") == issuer:
        yield passed("iss", issuer)
    else:
        remedy = "BETTER_AUTH_URL must lead to Better Auth as its baseURL does, with the path of its API if it has one."
        yield failed("iss", f"is {describe(found.get('issuer'))}, expected {issuer}", remedy)
    if found.get("jwks_uri") == config.jwks_url:
        yield passed("keys", str(config.jwks_url))
    else:
        remedy = "Access tokens must be signed with the keys of jwt(): correct JWKS_URL if it is set."
        yield warning("keys", f"are at {describe(found.get('jwks_uri'))}, expected {config.jwks_url}", remedy)
    if found.get("client_id_metadata_document_supported") is True:
        yield passed("registration", "clients have documents of their own (CIMD)")
    elif isinstance(found.get("registration_endpoint"), str):
        yield passed("registration", "clients register themselves")
    else:
        yield failed("registration", "there is none for clients", REGISTER)
    scopes = found.get("scopes_supported")
    lacking = [scope for scope in access.SCOPES if not isinstance(scopes, list) or scope not in scopes]
    if lacking:
        remedy = f"Add them to scopes of {PLUGIN}."
        yield failed("scopes", f"{' and '.join(lacking)} cannot be requested", remedy)
    else:
        yield passed("scopes", " and ".join(access.SCOPES))


def _check_audience(resource: str, issuer: str) -> Result:
    """Report which resource the issuer makes access tokens for: its plugin publishes that."""
    url = f"{_split(issuer)[0]}{access.METADATA_PATH}"
    try:
        published = _read(url).get("resource")
    except fetch.FetchFailed as error:
        remedy = f"Make sure that resource of {PLUGIN} is {resource}: with any other, each call is a 401."
        return warning("audience", f"not checked ({url}: {error})", remedy)
    if published == resource:
        return passed("audience", resource)
    remedy = f"Set resource of {PLUGIN} to {resource}, or correct PUBLIC_URL."
    return failed("audience", f"access tokens are for {describe(published)}, expected {resource}", remedy)


def _read(url: str) -> dict[str, Any]:
    """Return the JSON object at an address.

    Raises:
        FetchFailed: There is none.

    """
    try:
        document = orjson.loads(fetch.get(url).body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise fetch.FetchFailed("the response is no JSON object")
    return document


def _split(url: str) -> tuple[str, str]:
    """Return the origin and the path of an address."""
    parts = urlsplit(url)
    return parts._replace(path="").geturl(), parts.path
