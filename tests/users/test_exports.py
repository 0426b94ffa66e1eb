"""How many exports run at once."""

import pytest
from support import new_user

from todo.http.problems import Unavailable
from todo.users.exports import ExportRunning, Exports


@pytest.fixture
def exports(app):
    """Enter an application context in which two exports may run at once."""
    with app.app_context():
        yield Exports(2)


def test_export_beyond_the_limit_is_unavailable_until_another_is_closed(exports):
    first, second, third = new_user(), new_user(), new_user()
    running = [exports.run(user) for user in (first, second)]
    assert all(next(export) for export in running)
    with pytest.raises(Unavailable):
        next(exports.run(third))

    running[0].close()
    assert next(exports.run(third))


def test_user_has_one_export_until_it_is_read_or_closed(exports):
    user = new_user()
    export = exports.run(user)
    assert next(export)
    with pytest.raises(ExportRunning):
        next(exports.run(user))

    assert list(export) == []
    export = exports.run(user)
    assert next(export)
    export.close()
    assert next(exports.run(user))
