"""Who is calling: bearer tokens in, callers out. Knows nothing of tasks."""

from dataclasses import replace
from pathlib import Path

from flask import Flask

from config import Config, secret_faults
from todo.auth.decorators import require_jwt
from todo.auth.development import development_secret
from todo.auth.tokens import SharedSecretVerifier
from todo.logs import log

__all__ = ["init_app", "require_jwt", "with_secret"]


def with_secret(config: Config, instance_path: str) -> Config:
    """Complete the settings of a development machine with a secret of its own, where none is set."""
    if config.better_auth_secret is not None:
        return config
    return replace(config, better_auth_secret=development_secret(Path(instance_path) / "better-auth-secret"))


def init_app(app: Flask, config: Config) -> None:
    """Choose how tokens are verified: by the settings, never by the token."""
    secrets = [s for s in (config.better_auth_secret, config.better_auth_secret_previous) if s is not None]
    for fault in [fault for secret in secrets for fault in secret_faults(secret)]:
        log.warning("weak secret: production would refuse it", fault=fault)
    app.extensions["token_verifier"] = SharedSecretVerifier(
        secrets, issuers=config.jwt_issuer, audiences=config.jwt_audience
    )
