"""Authentication: bearer tokens in, callers out. Independent of tasks."""

from dataclasses import replace
from pathlib import Path

from flask import Flask

from config import Config, secret_faults
from todo.auth import fetch, keys
from todo.auth.decorators import allow_access_tokens, require_jwt, token_lifetime_s
from todo.auth.development import development_secret
from todo.auth.jwks import KeyCache
from todo.auth.rules import Rules, access_token_rules, issuer_rules, shared_secret_rules
from todo.auth.verifier import Verifier
from todo.telemetry.logs import log

__all__ = ["after_fork", "allow_access_tokens", "init_app", "require_jwt", "token_lifetime_s", "with_secret"]


def with_secret(config: Config, instance_path: str) -> Config:
    """Return the settings, completed with a random secret where they name neither an issuer nor a secret.

    Production refuses such settings before, so this only happens in development.
    """
    if config.jwks_url is not None or config.better_auth_secret is not None:
        return config
    return replace(config, better_auth_secret=development_secret(Path(instance_path) / "better-auth-secret"))


def init_app(app: Flask, config: Config) -> None:
    """Choose how tokens are verified: by the settings, never by the token."""
    app.extensions["issuer_keys"] = _issuer_keys(config)
    app.extensions["token_verifier"] = _verifier(config, app.extensions["issuer_keys"])


def _verifier(config: Config, issuer_keys: KeyCache | None) -> Verifier:
    """Build the verifier: with the issuer's keys where it publishes any, else with the shared secret."""
    secrets = [s for s in (config.better_auth_secret, config.better_auth_secret_previous) if s is not None]
    if issuer_keys is not None:
        if secrets:
            log.info("tokens are verified with the issuer's keys: BETTER_AUTH_SECRET is not used")
        rules = issuer_rules(issuer_keys, issuers=config.issuers, audiences=config.audiences)
        return Verifier(rules, access_token_rules=_access_token_rules(config, issuer_keys), keys=issuer_keys)
    for fault in [fault for secret in secrets for fault in secret_faults(secret)]:
        log.warning("weak secret: production would refuse it", fault=fault)
    return Verifier(shared_secret_rules(secrets, issuers=config.issuers, audiences=config.audiences))


def _access_token_rules(config: Config, issuer_keys: KeyCache) -> Rules | None:
    issuer, resource = config.authorization_server, config.resource
    if issuer is None or resource is None:
        return None
    return access_token_rules(issuer_keys, issuer=issuer, resource=resource)


def _issuer_keys(config: Config) -> KeyCache | None:
    url = config.jwks_url
    if url is None:
        return None
    # Most threads must stay free for callers whose keys are cached, so only a quarter of them may wait, at least one.
    return KeyCache(lambda: keys.parse(fetch.get(url).body), waiting_max=max(1, config.web_threads // 4))


def after_fork(app: Flask) -> None:
    """Start to fetch the issuer's keys, so that the first request to a new process finds them."""
    issuer_keys: KeyCache | None = app.extensions["issuer_keys"]
    if issuer_keys is not None:
        issuer_keys.refresh()
