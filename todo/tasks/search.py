"""Folding: the form of a text that search and sorting compare, in which only what readers tell apart is different.

The folded form of a title or description is stored beside it only where PostgreSQL could not compute it: the one of
plain ASCII, and of scripts without case and marks, is `lower(… COLLATE "C")`. So most rows store neither text twice.
"""

import string
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

# The characters that are invisible where a font does not know them (Default_Ignorable_Code_Point in Unicode's
# DerivedCoreProperties.txt, which `unicodedata` lacks): soft hyphens, joiners, direction marks, variation selectors.
INVISIBLE = (
    ("\u00ad", "\u00ad"),
    ("\u034f", "\u034f"),
    ("\u061c", "\u061c"),
    ("\u115f", "\u1160"),
    ("\u17b4", "\u17b5"),
    ("\u180b", "\u180f"),
    ("\u200b", "\u200f"),
    ("\u202a", "\u202e"),
    ("\u2060", "\u206f"),
    ("\u3164", "\u3164"),
    ("\ufe00", "\ufe0f"),
    ("\ufeff", "\ufeff"),
    ("\uffa0", "\uffa0"),
    ("\ufff0", "\ufff8"),
    ("\U0001bca0", "\U0001bca3"),
    ("\U0001d173", "\U0001d17a"),
    ("\U000e0000", "\U000e0fff"),
)

# What keyboards have for other quotation marks, primes and signs.
TYPED_AS = dict.fromkeys(
    "\u00b4\u02b9\u02bb\u02bc\u02bd\u02ca\u02cb\u055a\u05f3\u1fbd\u1fbf\u1ffd\u1ffe"
    "\u2018\u2019\u201a\u201b\u2032\u2035\u2039\u203a",
    "'",
)
TYPED_AS |= dict.fromkeys(
    "\u00ab\u00bb\u02ba\u02ee\u05f4\u201c\u201d\u201e\u201f\u2033\u2036\u2e42\u301d\u301e\u301f", '"'
)
TYPED_AS |= dict.fromkeys("\u02d7\u2043\u2212", "-")
# The tatweel only stretches an Arabic word, and the alef with a wasla is that of texts with points.
TYPED_AS |= {"\u0640": "", "\u0671": "\u0627"}

# The base of the Latin letters whose names do not end with it: the one that Unicode's transliteration Latin-ASCII has
# (CLDR), and for the schwa the e of keyboards without it.
NAMED = {"ETH": "d", "THORN": "th", "ENG": "n", "KRA": "q", "SCHWA": "e"}
LIGATURE_MAX = 2

# The effect of `lower` in the collation "C".
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

# The combining class of marks above and below a letter, such as accents.
ACCENT_CLASS_MIN = 200


def fold(text: str) -> str:
    """Return a text without case, marks and invisible characters, with the base of each letter.

    This is compatibility caseless matching (Unicode, section 3.13) that leaves out marks of every combining class, such
    as accents, Hebrew and Arabic points, tones and voicing marks, and enclosing marks. Vowels that have no combining
    class, as in Devanagari and Thai, stay. A letter without a decomposition, such as one with a stroke or a hook, is
    folded to the letter of the same script that it is a form of. Dashes and quotation marks are those of ASCII.

    Since no mark is left whose place could change, each character is folded by itself.
    """
    return text.lower() if text.isascii() else "".join(map(_fold_character, text))


@lru_cache(maxsize=8192)
def _fold_character(character: str) -> str:
    # A quotation mark may have a decomposition to a space and an accent.
    if character in TYPED_AS:
        return TYPED_AS[character]
    bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not is_hidden(c))
    return "".join(map(_base, bare.casefold()))


@lru_cache(maxsize=8192)
def is_hidden(character: str) -> bool:
    """Return whether a character shows nothing by itself: a mark with a combining class, or an invisible character."""
    if unicodedata.combining(character) or unicodedata.category(character) == "Me":
        return True
    return any(first <= character <= last for first, last in INVISIBLE)


def shows_nothing(text: str) -> bool:
    """Return whether a text has only white space, marks and invisible characters."""
    return all(character.isspace() or is_hidden(character) for character in text)


def _base(character: str) -> str:
    """Return what a character without a decomposition, in lower case, is a form of; mostly itself.

    Unicode names a letter after its base: LATIN SMALL LETTER L WITH STROKE, LATIN SMALL LETTER DOTLESS I, LATIN SMALL
    LIGATURE OE.
    """
    if character.isascii() or character in TYPED_AS:
        return TYPED_AS.get(character, character)
    category = unicodedata.category(character)
    if category[0] != "L":
        return "-" if category == "Pd" else character
    name, _, form = unicodedata.name(character, "").partition(" WITH ")
    if name.startswith("LATIN "):
        letter = name.removesuffix(" DIGRAPH").removesuffix(" BAR").rpartition(" ")[2]
        return NAMED.get(letter) or (letter.lower() if len(letter) <= LIGATURE_MAX else character)
    try:
        return _fold_character(unicodedata.lookup(name)) if form else character
    except KeyError:
        return character


def earlier_fold(text: str) -> str:
    """Return a text as releases before `0006_refold_texts` fold it, which may still be writing; without other marks."""
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in decomposed if unicodedata.combining(c) < ACCENT_CLASS_MIN)
    return unicodedata.normalize("NFKD", bare.casefold())


def words(text: str) -> tuple[tuple[str, ...], ...]:
    """Return the distinct words of a text, in order: each as it is folded, and as it was folded if that differs."""
    spellings: dict[str, tuple[str, ...]] = {}
    for part in text.split():
        folded, earlier = fold(part).split(), earlier_fold(part).split()
        # Where they are not the same words, those of earlier releases are no spellings of the others.
        for word, before in zip(folded, earlier if len(earlier) == len(folded) else folded, strict=True):
            spellings.setdefault(word, tuple(dict.fromkeys((word, before))))
    return tuple(spellings.values())


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
