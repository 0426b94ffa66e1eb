"""Files of other services, as they write them, and the tasks that they become."""

from zoneinfo import ZoneInfo

import pytest

from todo.importing import imports


@pytest.fixture
def read():
    """Return a function that reads a file without a database, and returns what is in it."""

    def read(content, format_name=None, zone="UTC"):
        data = content if isinstance(content, bytes) else content.encode()
        return imports.read(data, format_name, ZoneInfo(zone))

    return read


@pytest.fixture
def only(read):
    """Return a function that reads a file with one task, and returns what clients will see of it."""

    def only(content, format_name=None, zone="UTC"):
        contents = read(content, format_name, zone)
        assert contents.faults == []
        (task,) = contents.tasks
        return task.sample

    return only
