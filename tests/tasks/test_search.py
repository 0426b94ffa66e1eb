"""The folded form that searches compare, and where it is stored."""

# ruff: noqa: RUF001 (letters that look alike are what is folded)

import string
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from todo.extensions import db
from todo.tasks import search
from todo.tasks.search import TYPED_AS, columns, earlier_fold, fold, shows_nothing, tag_key

# The characters that PostgreSQL can store: no NUL, no surrogates.
CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
# Marks and letters that folding changes are rare among random characters.
TRICKY = "łŁøæ’´-‑\u200b\u05b8\u3164"
TRICKY += "aAéÉ\u0301\u0327\u0323\u0345\u093c\u094d\u3099かがßẞİ\u0131ﬁΣςσΰᾳ한ㄱK\u00b4\u2003\n %_\\日"
TEXTS = st.text(CHARACTERS) | st.text(TRICKY)
ALL = [chr(point) for point in range(1, 0x20000) if not 0xD800 <= point < 0xE000]


def lowered(words):
    """Do what PostgreSQL's `lower` does in the collation "C"."""
    return "".join(c.lower() if c in string.ascii_uppercase else c for c in words)


@pytest.mark.parametrize(
    ("sent", "folded"),
    [
        ("", ""),
        ("Buy MILK", "buy milk"),
        ("Éclair", "eclair"),
        ("e\u0301", "e"),
        ("Žluťoučký kůň", "zlutoucky kun"),
        ("Straße STRASSE ẞ", "strasse strasse ss"),
        ("İstanbul", "istanbul"),
        ("ısparta ISPARTA", "isparta isparta"),
        ("Łódź Søren đ Ħ ŧ", "lodz soren d h t"),
        ("Æsop cœur Þór ð Ŋ ĸ ŉ ə", "aesop coeur thor d n q 'n e"),
        # Letters whose names are longer than their bases.
        ("ɓ ƒ Ɖ ɵ ʉ Ǥ ȼ ⱥ ɟ ƣ ʣ", "b f d o u g c a j oi dz"),
        # The bases of other scripts stay in them.
        ("ґ Қ ұ Ө Й", "г к ү ө и"),
        ("ټ ٱ", "ت ا"),
        ("Бо ʒ ʃ 中", "бо ʒ ʃ 中"),
        ("ΌΣΟΣ ὄσος", "οσοσ οσοσ"),
        ("ﬁn ①", "fin 1"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("日本 한", unicodedata.normalize("NFKD", "日本 한")),
        # Marks of every class: points, voicing marks, nuktas and viramas, tones, overlays and enclosing marks.
        ("שָׁלוֹם", "שלום"),
        ("مُحَمَّدٌ محـــمد", "محمد محمد"),
        ("が ｶﾞ", "か カ"),
        ("क़ क्", "क क"),
        ("น้ำ", "น\u0e4dา"),
        ("a\u0338 1\ufe0f\u20e3", "a 1"),
        # Vowels without a class are letters.
        ("कि के กิ", "कि के กิ"),
        # Characters that are invisible.
        ("con\u00adtent a\u200bb \u200ec\u2060d\ufeff", "content ab cd"),
        ("❤\ufe0f 👨\u200d👩\u200d👧 \U000e0067", "❤ 👨👩👧 "),
        # What keyboards have instead.
        ("it’s it´s it‘s itʼs 5′ צה״ל", "it's it's it's it's 5' צה\"ל"),
        ("“a” „b” «c»", '"a" "b" "c"'),
        ("a‑b a–b a—b a−b a‐b", "a-b a-b a-b a-b a-b"),
        ("100 % _ \\ '", "100 % _ \\ '"),
        ("😀\u0001", "😀\u0001"),
    ],
)
def test_fold_drops_case_and_accents_and_nothing_else(sent, folded):
    assert fold(sent) == folded


@given(TEXTS)
def test_fold_of_what_is_folded_changes_nothing(words):
    assert fold(fold(words)) == fold(words)


@given(TEXTS)
def test_fold_does_not_depend_on_how_a_text_is_composed(words):
    assert fold(unicodedata.normalize("NFC", words)) == fold(unicodedata.normalize("NFD", words)) == fold(words)
    if not TYPED_AS.keys() & set(words):
        assert fold(unicodedata.normalize("NFKC", words)) == fold(unicodedata.normalize("NFKD", words)) == fold(words)


@pytest.mark.slow
def test_fold_of_every_character_is_folded():
    for character in ALL:
        assert fold(fold(character)) == fold(character), hex(ord(character))


def test_fold_of_latin_letters_of_european_languages_is_ascii():
    letters = [c for c in map(chr, range(0xC0, 0x180)) if c.isalpha()]
    # The dot of a Catalan one has a key.
    assert [c for c in letters if not fold(c).isascii()] == ["\u013f", "\u0140"]


def test_words_are_distinct_and_have_the_form_that_earlier_releases_wrote():
    assert search.words("Milk MILK łódź ŁÓDŹ Étude") == (("milk",), ("lodz", "łodz"), ("etude",))
    assert search.words("\u0301 it´s \u200b") == (("it's",),)
    assert search.words(" ") == ()


@given(TEXTS)
def test_words_are_those_of_the_folded_text(text):
    assert [word for word, *_ in search.words(text)] == list(dict.fromkeys(fold(text).split()))
    for word, *earlier in search.words(text):
        assert all(before in earlier_fold(text) and before != word for before in earlier)


@given(TEXTS)
def test_text_that_shows_nothing_has_no_words(text):
    if shows_nothing(text):
        assert search.words(text) == ()


@given(st.text("aAbBéÉčČžŽäÄöÖüÜñÑæÆøØ абвАБВ γδΓΔ"))
def test_fold_does_not_depend_on_case(words):
    assert fold(words.upper()) == fold(words.lower()) == fold(words.swapcase()) == fold(words)


@given(st.text(CHARACTERS), st.text(CHARACTERS))
def test_fold_of_ascii_is_what_it_would_be_if_it_were_not(first, second):
    plain = "".join(c for c in first + second if c.isascii())
    assert fold(plain + "日") == fold(plain) + "日"


@given(before=st.text("aé ßか\n"), word=st.text("Aé\u00e9ßか%_\\", min_size=1), after=st.text("bÉ ss\n"))
def test_word_that_stands_in_a_text_is_found_in_it(before, word, after):
    assert fold(word) in fold(before + word + after)
    assert fold(word.upper()) in fold(before + word + after)


@given(word=TEXTS, tags=st.lists(TEXTS))
def test_word_is_found_in_joined_tags_only_where_it_stands_in_one(word, tags):
    for part in fold(word).split():
        assert (part in fold("\n".join(tags))) == any(part in fold(tag) for tag in tags)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("home", "HOME"),
        ("café", "CAFÉ"),
        ("café", "cafe\u0301"),
        ("straße", "STRASSE"),
        ("ΣΟΣ", "σος"),
        ("Å", "\u212b"),
        ("ᾳ", "\u0391\u0345"),
    ],
)
def test_tag_key_of_tags_that_differ_in_case_alone_is_one(one, other):
    assert tag_key(one) == tag_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("cafe", "café"), ("fin", "ﬁx"), ("①", "1"), ("a b", "ab"), ("が", "か"), ("\u0131", "i")]
)
def test_tag_key_of_tags_that_differ_otherwise_is_two(one, other):
    assert tag_key(one) != tag_key(other)


@given(TEXTS)
def test_tag_key_of_a_key_is_the_key(tag):
    key = tag_key(tag)
    assert tag_key(key) == key
    for form in ("NFC", "NFD"):
        assert tag_key(unicodedata.normalize(form, tag)) == key


def test_columns_of_nothing_are_none():
    assert columns({}) == {}
    assert columns({"completed": True, "priority": "low"}) == {}


@pytest.mark.parametrize(
    ("texts", "made"),
    [
        ({"title": "Buy MILK"}, {"folded_title": None}),
        ({"title": "Éclair"}, {"folded_title": "eclair"}),
        ({"title": "日本 %"}, {"folded_title": None}),
        ({"title": "ÉCLAIR", "description": None}, {"folded_title": "eclair", "folded_description": None}),
        ({"description": ""}, {"folded_description": None}),
        ({"description": "Ů"}, {"folded_description": "u"}),
        ({"tags": []}, {"tag_keys": None, "folded_tags": None}),
        ({"tags": ["home", "a b"]}, {"tag_keys": None, "folded_tags": "home\na b"}),
        ({"tags": ["Home", "a"]}, {"tag_keys": ["home", "a"], "folded_tags": "home\na"}),
        ({"tags": ["日本"]}, {"tag_keys": None, "folded_tags": "日本"}),
        ({"tags": ["café", "b"]}, {"tag_keys": None, "folded_tags": "cafe\nb"}),
        ({"tags": ["Café", "b"]}, {"tag_keys": ["café", "b"], "folded_tags": "cafe\nb"}),
        ({"tags": ["cafe\u0301"]}, {"tag_keys": ["café"], "folded_tags": "cafe"}),
        ({"tags": ["STRASSE", "Straße"]}, {"tag_keys": ["strasse", "strasse"], "folded_tags": "strasse\nstrasse"}),
    ],
)
def test_columns_hold_what_postgresql_cannot_make(texts, made):
    assert columns(texts) == made


def test_columns_are_null_exactly_where_postgresql_makes_the_same_of_a_character(app):
    with app.app_context(), db.engine.connect() as connection:
        query = 'SELECT array_agg(lower(c COLLATE "C") ORDER BY n) FROM unnest(CAST(:all AS text[])) WITH ORDINALITY'
        made = connection.execute(text(f"{query} AS u (c, n)"), {"all": ALL}).scalar_one()
    assert made == [lowered(character) for character in ALL]
    for character, by_postgresql in zip(ALL, made, strict=True):
        stored = columns({"title": character})["folded_title"]
        assert (stored is None) == (by_postgresql == fold(character)), hex(ord(character))
        assert (by_postgresql if stored is None else stored) == fold(character)


@given(st.lists(TEXTS, min_size=1, max_size=20))
@settings(deadline=None)
def test_columns_and_postgresql_together_make_the_folded_texts(app, texts):
    query = """
        SELECT coalesce(folded, lower(written COLLATE "C"))
        FROM unnest(CAST(:folded AS text[]), CAST(:written AS text[])) WITH ORDINALITY AS u (folded, written, n)
        ORDER BY n
    """
    folded = [columns({"description": words})["folded_description"] for words in texts]
    with app.app_context(), db.engine.connect() as connection:
        made = connection.execute(text(query), {"folded": folded, "written": texts}).scalars().all()
    assert made == [fold(words) for words in texts]
    for words, stored in zip(texts, folded, strict=True):
        assert (stored is None) == (lowered(words) == fold(words))


@given(st.lists(TEXTS))
def test_columns_of_tags_are_null_exactly_where_they_would_say_the_same(tags):
    made = columns({"tags": tags})
    keys = [tag_key(tag) for tag in tags]
    assert made["tag_keys"] == (None if keys == tags else keys)
    assert made["folded_tags"] == (fold("\n".join(tags)) or None)
