"""Behind PgBouncer the calls do all that they do elsewhere: these are the tests of `wire/test_calls.py`."""

import pytest
from wire.test_calls import *  # noqa: F403


@pytest.fixture
def server(pooled_server):
    """Give the server behind the pooler."""
    return pooled_server
