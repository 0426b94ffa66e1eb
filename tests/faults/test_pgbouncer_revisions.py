"""Behind PgBouncer revisions are what they are elsewhere: these are tests of `wire/test_revisions.py`."""

import pytest
from wire.test_revisions import *  # noqa: F403

# These take a minute, or start servers of their own.
del (
    test_followers_of_writers_at_once_through_all_faults_keep_exact_copies,  # noqa: F821
    test_ten_thousand_optimistic_writes_at_once_lose_no_update,  # noqa: F821
    test_create_whose_answer_was_lost_is_made_once_when_it_is_sent_again,  # noqa: F821
    test_changes_without_if_match_where_it_is_required_are_428,  # noqa: F821
    test_trash_of_no_days_keeps_nothing_and_the_feed_tells_the_deletion,  # noqa: F821
)


@pytest.fixture
def server(pooled_server):
    """Give the server behind the pooler."""
    return pooled_server


@pytest.fixture
def database_url(direct_url):
    """Give the URL of its database, past the pooler."""
    return direct_url
