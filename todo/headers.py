"""Headers, as the OpenAPI document describes them: those that calls read, and those of answers."""

from typing import Any

# Text that white space neither begins nor ends, or a string of a structured field (RFC 9651, section 3.3.3).
IDEMPOTENCY_KEY = (
    r'^(?:[^"\x00-\x20\x85\xa0](?:[^\x00]{0,253}[^\x00-\x20\x85\xa0])?|"(?:[ !#-\[\]-~]|\\["\\]){1,255}")$'
)

# The request headers that calls read. Pages fill in an `example` by themselves, but none of `examples`.
REQUEST: dict[str, dict[str, Any]] = {
    "Prefer": {
        "description": "With `handling=strict`, whatever is not known here is an error; with `return=representation`, "
        "a deletion answers with what was deleted (RFC 7240).",
        "schema": {"type": "string", "examples": ["return=representation", "handling=strict"]},
    },
    "If-Match": {
        "description": "The `ETag` of the task that is meant, or several: in any other state it is left alone, and the "
        "answer is 412 (RFC 9110).",
        "schema": {"type": "string", "examples": ['"17"', '"17", "18"', "*"]},
    },
    "If-None-Match": {
        "description": "The `ETag` of what is known already: when it is still the newest, the answer is 304 without a "
        "body (RFC 9110).",
        "schema": {"type": "string", "examples": ['"17"']},
    },
    "Idempotency-Key": {
        "description": "A name for this creation that no other has, such as a UUID, of up to 255 characters: sent "
        "again, it makes no second task.",
        "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY},
    },
    "Confirm": {
        "description": "The id of the user whose data is to be erased, percent-encoded where it is not plain ASCII.",
        "required": True,
        "schema": {"type": "string", "examples": ["user-123"]},
    },
}


def header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    """Describe a header of an answer: text, unless the schema says otherwise."""
    return {"description": description, "required": required, "schema": {"type": "string"} | schema}


ETAG = {
    "ETag": header(
        "What it is the state of, for conditional requests (RFC 9110).", pattern='^"[0-9a-f-]+"$', example='"17"'
    )
}
