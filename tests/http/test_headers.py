"""What the document says of headers is what the service makes of them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todo.http.idempotency import parse
from todo.http.openapi import REQUEST
from todo.http.problems import UnprocessableContent

# What a server lets through; it takes away the blanks around a value (RFC 9110, section 5.5).
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")).map(str.strip)
QUOTED = st.text(st.sampled_from('a "\\'), max_size=300).map('"{}"'.format)


@settings(deadline=None)
@given(VALUES | QUOTED)
def test_pattern_of_idempotency_key_takes_what_the_service_takes(key):
    if re.fullmatch(REQUEST["Idempotency-Key"]["schema"]["pattern"], key):
        parse(key, {})
    else:
        with pytest.raises(UnprocessableContent):
            parse(key, {})
