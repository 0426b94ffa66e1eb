"""Refused tokens as operators see them: the rule that was broken, in the log and as the label of a metric."""

from dataclasses import dataclass
from enum import StrEnum


class TokenRule(StrEnum):
    """Every rule that a request's token can break. Their number bounds the values of the metric's label."""

    AUTHORIZATION = "Authorization"
    SIZE = "size"
    FORM = "form"
    TYPE = "typ"
    KEY_SOURCE = "key source"
    ALGORITHM = "algorithm"
    KEY = "key"
    SIGNATURE = "signature"
    PURPOSE = "purpose"
    CONFIRMATION = "cnf"
    CLIENT = "client"
    SCOPE = "scope"
    USER = "user"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    ISSUED_AT = "issued at"
    NOT_BEFORE = "not before"
    EXPIRY = "expiry"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a token is refused. The text is safe to log: it is short, holds no part of a token and names no person.

    Attributes:
        rule: The rule that the token breaks.
        got: What the request or its token has instead.
        expected: What the rule expects, where `got` alone does not explain the refusal.

    """

    rule: TokenRule
    got: str
    expected: str | None = None

    @property
    def fault(self) -> str:
        """Describe the fault, without the name of the rule."""
        return self.got if self.expected is None else f"expected {self.expected}, got {self.got}"

    def __str__(self) -> str:
        """Return the rule and the fault, as in `audience: expected todo, got other`."""
        return f"{self.rule}: {self.fault}"
