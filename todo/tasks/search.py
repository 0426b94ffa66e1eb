"""Folding: the form of a text without case and accents, which search and sorting compare.

The folded form of a title or description is stored beside it only where PostgreSQL could not compute it: the one of
plain ASCII, and of scripts without case and accents, is `lower(… COLLATE "C")`. So most rows store neither text twice.
"""

import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

# The combining class of marks above and below a letter, such as accents. In some scripts, marks of lower classes make
# a different letter.
ACCENT_CLASS_MIN = 200

# The effect of `lower` in the collation "C".
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def fold(text: str) -> str:
    """Return a text without case and accents (Unicode, section 3.13, compatibility caseless matching)."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in decomposed if unicodedata.combining(c) < ACCENT_CLASS_MIN)
    return unicodedata.normalize("NFKD", bare.casefold())


def tag_key(tag: str) -> str:
    """Return the key of a tag, whatever its case (Unicode, section 3.13, canonical caseless matching)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", tag).casefold())


def columns(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that follow from these texts of a task: its title, its description and its tags."""
    folded: dict[str, Any] = {}
    for name in ("title", "description"):
        if name in texts:
            text: str | None = texts[name]
            folded[f"folded_{name}"] = None if text is None else _unless_computed(text.translate(LOWER), fold(text))
    if "tags" in texts:
        tags: Sequence[str] = texts["tags"]
        keys = [tag_key(tag) for tag in tags]
        folded["tag_keys"] = keys if keys != tags else None
        # One text is searched much faster than an array, so this one is stored whenever there are tags.
        folded["folded_tags"] = fold("\n".join(tags)) or None
    return folded


def _unless_computed(computed: str, folded: str) -> str | None:
    """Return the folded text, or None where it is the one that PostgreSQL computes."""
    return None if folded == computed else folded
