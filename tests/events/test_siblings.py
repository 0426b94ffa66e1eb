"""What processes tell each other over the sockets between them."""

import pytest

from todo.events import siblings as siblings_module
from todo.events.siblings import READ_MAX, Siblings


@pytest.fixture
def family(monkeypatch):
    """Return a function that makes the processes of a server, all of them in this one."""
    made = []

    def make(number, joining=None):
        siblings = Siblings(number)
        monkeypatch.setattr(siblings_module.os, "urandom", lambda _: siblings._secret)
        members = []
        for place in range(joining or number):
            member = Siblings(0)
            # As after a fork, each has descriptors of its own.
            member._pairs = [(ear.dup(), mouth.dup()) for ear, mouth in siblings._pairs]
            member.join(place)
            members.append(member)
        made.extend([siblings, *members])
        return members

    yield make
    for one in made:
        one.close()


def test_what_one_tells_all_others_hear_and_nobody_else(family):
    first, second, third = family(3)
    first.tell(first.key("user"), 2**63 - 1)
    assert list(first.listen()) == []
    for other in (second, third):
        assert list(other.listen()) == [(other.key("user"), 2**63 - 1)]
        assert list(other.listen()) == []


def test_key_of_a_user_differs_between_servers():
    assert Siblings(0).key("user") != Siblings(0).key("user")
    assert len(Siblings(0).key("x" * 255)) == 8


def test_process_that_hears_nothing_costs_the_others_no_time_and_nothing_else(family):
    first, second = family(2)
    for revision in range(1, 10_001):
        first.tell(first.key("user"), revision)
    heard = []
    while more := list(second.listen()):
        assert len(more) <= READ_MAX
        heard += [revision for _, revision in more]
    # What does not fit is dropped, and the rest is in order.
    assert heard == list(range(1, len(heard) + 1))
    assert len(heard) >= 100
    first.tell(first.key("user"), 7)
    assert [revision for _, revision in second.listen()] == [7]


def test_process_that_replaces_another_one_hears_in_its_place(family):
    first, second = family(2)
    replacing = Siblings(0)
    replacing._pairs = [(second.ear.dup(), first._others[0].dup())]
    second.close()
    replacing.join(0)
    first.tell(b"12345678", 7)
    assert list(replacing.listen()) == [(b"12345678", 7)]
    replacing.close()


@pytest.mark.parametrize("most", [64, 1])
def test_process_beyond_the_places_tells_the_others_and_hears_nothing(family, monkeypatch, most):
    monkeypatch.setattr(siblings_module, "SIBLINGS_MAX", most)
    first, second = family(1, joining=2)
    second.tell(b"12345678", 7)
    assert list(second.listen()) == []
    assert list(first.listen()) == [(b"12345678", 7)]


def test_process_alone_tells_nobody(family):
    (alone,) = family(1)
    alone.tell(alone.key("user"), 1)
    assert list(alone.listen()) == []
