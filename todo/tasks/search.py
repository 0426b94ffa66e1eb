"""What texts have in common when neither case nor accents count: search and sorting compare these.

A folded title or description is stored beside it only where PostgreSQL could not make it: that of plain ASCII, and of
scripts that know neither case nor accents, is `lower(… COLLATE "C")`. So most rows carry neither twice.
"""

import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

# Marks above and below a letter, such as accents. Those of lower classes make another letter of it in other scripts.
ACCENT_CLASS_MIN = 200

# What `lower` does in the collation "C".
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def fold(text: str) -> str:
    """Fold case and accents away (Unicode, section 3.13, compatibility caseless matching; accents are dropped)."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in decomposed if unicodedata.combining(c) < ACCENT_CLASS_MIN)
    return unicodedata.normalize("NFKD", bare.casefold())


def tag_key(tag: str) -> str:
    """Give what tags that differ in case alone have in common (Unicode, section 3.13, canonical caseless matching)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", tag).casefold())


def columns(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the columns that go with these texts of a task: of its title, its description and its tags."""
    folded: dict[str, Any] = {}
    for name in ("title", "description"):
        if name in texts:
            text: str | None = texts[name]
            folded[f"folded_{name}"] = None if text is None else _unless(text.translate(LOWER), fold(text))
    if "tags" in texts:
        tags: Sequence[str] = texts["tags"]
        keys = [tag_key(tag) for tag in tags]
        folded["tag_keys"] = keys if keys != tags else None
        # One text is searched much faster than an array, so this one is stored whenever there are tags.
        folded["folded_tags"] = fold("\n".join(tags)) or None
    return folded


def _unless(made: str, folded: str) -> str | None:
    """Give the folded text, unless it is what PostgreSQL makes."""
    return None if folded == made else folded
