"""Who in this process waits for changes of which list, and the newest known revision of each of these lists.

A stream is opened before the revision of its list is read, and compared with the newest known one when it is parked: a
change in between is never lost. The threads and the beat only note revisions here. The server's poller alone writes to
the clients, and takes what is due from here.
"""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from todo.database.statements import ListChange
from todo.events import messages
from todo.events.siblings import Siblings
from todo.http.problems import TooManyRequests, Unavailable
from todo.tasks.changes import Position, encode_position
from todo.telemetry.streams import log_end, pokes_sent

# The changes of a list within this time are one event.
GATHER_MS = 100

# The poller tells about so many streams of a change, and then lets other clients have their turn.
ROUND_STREAMS = 256

# How much the age at which streams end differs between them, so that they do not all come back at once.
AGE_SPREAD = 0.1

# Of the connections of a process so many are left to other requests, as a part of all, whatever the settings say.
RESERVED_PART = 8

RETRY_AFTER_S = 60

# After how many milliseconds a client comes back when it loses a stream, and where the server keeps none open.
RETRY_MS = 3000
POLL_MS = 5000


class TooManyStreams(TooManyRequests):
    """429: the user has as many streams in this process as they may have."""

    cause = "You have too many open streams of events"


class StreamsExhausted(Unavailable):
    """503: this process has as many streams as it may have."""

    detail = f"The service cannot keep more clients informed. Please try again in {RETRY_AFTER_S} seconds."
    headers = {"Retry-After": str(RETRY_AFTER_S)}  # noqa: RUF012 (as the class above has it)


class Topic:
    """A list that somebody waits for.

    Attributes:
        user: Whose list it is.
        key: What stands for the user in messages of siblings.
        revision: Its newest known revision.
        streams: Those who wait.
        is_due: Whether they will be told soon.

    """

    __slots__ = ("is_due", "key", "revision", "streams", "user")

    def __init__(self, user: str, key: bytes) -> None:
        self.user = user
        self.key = key
        self.revision = 0
        self.streams: list[Stream] = []
        self.is_due = False


class Stream:
    """A client that waits for changes of a list.

    Attributes:
        topic: That list; None when the stream has ended.
        request_id: The id of the request that opened it.
        revision: The revision that the client was told last.
        events: How many events it was sent.
        is_begun: Whether the application has written what it writes. The rest is written by the poller.
        connection: What the server has parked; None until then.
        ends_at: When it ends by itself, in seconds of the monotonic clock.
        ends_because: Why it ends then: `expired` or `age`.

    """

    __slots__ = (
        "_started_at",
        "connection",
        "ends_at",
        "ends_because",
        "events",
        "is_begun",
        "request_id",
        "revision",
        "topic",
        "user",
    )

    def __init__(self, topic: Topic, request_id: str, lifetime_s: float, ends_because: str) -> None:
        self.topic: Topic | None = topic
        self.user = topic.user
        self.request_id = request_id
        self.revision = 0
        self.events = 0
        self.is_begun = False
        self.connection: Any = None
        self._started_at = time.monotonic()
        self.ends_at = self._started_at + lifetime_s
        self.ends_because = ends_because

    @property
    def age_s(self) -> float:
        """How long it has been open, in seconds."""
        return time.monotonic() - self._started_at

    def begin(self, revision: int, known_revision: int | None) -> Iterator[bytes]:
        """Yield the body of the response up to where the poller goes on.

        Args:
            revision: The revision of the list, which was read after the stream was opened.
            known_revision: The revision that the client knows, if it says so.

        """
        self.revision = revision
        self.events = int(revision != known_revision)
        yield first_words(self.user, revision, known_revision, RETRY_MS)
        self.is_begun = True


def first_words(user: str, revision: int, known_revision: int | None, retry_ms: int) -> bytes:
    """Return the beginning of a stream: with an event, unless the client knows the revision of its list."""
    opening = messages.opening(retry_ms)
    return opening if revision == known_revision else opening + changed(user, revision)


def changed(user: str, revision: int) -> bytes:
    """Return the event of a list that has changed. Its id and its revision say the same."""
    return messages.changed(encode_position(user, Position(revision)), revision)


class Hub:
    """The streams of this process.

    Args:
        per_user: How many a user may have.
        most: How many there may be; None for half of the connections.
        age_s: How long one may be open, in seconds.

    Attributes:
        siblings: The other processes of the same server.
        number: How many streams are open.
        is_needed: Set while somebody waits for changes.

    """

    def __init__(self, *, per_user: int, most: int | None, age_s: float) -> None:
        self.siblings = Siblings(0)
        self.number = 0
        self.is_needed = threading.Event()
        self._per_user = per_user
        self._most = most
        self._age_s = age_s
        self._limit = 0
        self._wake: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._topics: dict[bytes, Topic] = {}
        self._due: deque[tuple[float, Topic]] = deque()

    def attend(self, connections: int, wake: Callable[[], object]) -> None:
        """Begin to serve streams in this process.

        Args:
            connections: How many connections it takes.
            wake: Wakes its poller.

        """
        most = connections // 2 if self._most is None else self._most
        self._limit = min(most, connections - connections // RESERVED_PART)
        self._wake = wake

    def open(self, user: str, request_id: str, token_lifetime_s: float) -> Stream:
        """Open a stream for a user, before the revision of the list is read.

        Args:
            user: The id of the user.
            request_id: The id of the request.
            token_lifetime_s: Seconds until the token expires.

        Raises:
            TooManyStreams: the user has too many.
            StreamsExhausted: the process has too many.

        """
        age_s = self._age_s * random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)  # noqa: S311 (no secret)  # nosec B311
        end = (token_lifetime_s, "expired") if token_lifetime_s < age_s else (age_s, "age")
        key = self.siblings.key(user)
        with self._lock:
            topic = self._topics.get(key) or Topic(user, key)
            if len(topic.streams) >= self._per_user:
                raise TooManyStreams(RETRY_AFTER_S, reason="too many streams of the user", user_id=user)
            if self.number >= self._limit:
                raise StreamsExhausted(reason="too many streams in this process", user_id=user)
            stream = Stream(topic, request_id, *end)
            topic.streams.append(stream)
            self._topics[key] = topic
            self.number += 1
            self.is_needed.set()
        return stream

    def park(self, stream: Stream, connection: Any) -> None:
        """Let a stream be told of changes from now on, and of those that it has missed since its revision was read."""
        with self._lock:
            # The client may have left already.
            if (topic := stream.topic) is not None:
                stream.connection = connection
                topic.revision = max(topic.revision, stream.revision)
                self._tell_soon(topic)

    def close(self, stream: Stream, reason: str) -> None:
        """Forget a stream, and log why it ended."""
        with self._lock:
            topic, stream.topic = stream.topic, None
            if topic is None:
                return
            topic.streams.remove(stream)
            if not topic.streams:
                del self._topics[topic.key]
            self.number -= 1
            if not self.number:
                self.is_needed.clear()
        log_end(stream.user, stream.request_id, events=stream.events, duration_s=stream.age_s, reason=reason)

    def announce(self, change: ListChange) -> None:
        """Note a change that this process has written, and tell its siblings."""
        key = self.siblings.key(change.user)
        self.siblings.tell(key, change.revision)
        self._hear(key, change.revision)

    def hear(self) -> None:
        """Note what siblings have told."""
        for key, revision in self.siblings.listen():
            self._hear(key, revision)

    def _hear(self, key: bytes, revision: int) -> None:
        with self._lock:
            topic = self._topics.get(key)
            if topic is not None and revision > topic.revision:
                topic.revision = revision
                self._tell_soon(topic)

    def known(self) -> dict[str, int]:
        """Return the newest known revision of each list that somebody waits for, by its user."""
        with self._lock:
            return {topic.user: topic.revision for topic in self._topics.values()}

    def correct(self, user: str, known_revision: int, revision: int) -> None:
        """Note a revision that was read from the database. It may be a lower one, after a backup was restored.

        Args:
            user: Whose list it is.
            known_revision: What was known before it was read.
            revision: What was read. It counts as older than what became known meanwhile.

        """
        with self._lock:
            topic = self._topics.get(self.siblings.key(user))
            if topic is not None and (topic.revision == known_revision or topic.revision < revision):
                topic.revision = revision
                self._tell_soon(topic)

    def _tell_soon(self, topic: Topic) -> None:
        """Let the poller tell the parked streams of a list, a little later; the caller holds the lock."""
        if not topic.is_due and any(_must_be_told(stream, topic) for stream in topic.streams):
            topic.is_due = True
            self._due.append((time.monotonic() + GATHER_MS / 1000, topic))
            if len(self._due) == 1:
                self._wake()

    def delay_s(self) -> float:
        """Return the seconds until streams must be told of a change."""
        try:
            return max(0.0, self._due[0][0] - time.monotonic())
        except IndexError:
            return math.inf

    def take_due(self) -> Sequence[tuple[bytes, Sequence[Stream]]]:
        """Take the changes that are due now, and return each as an event with the streams that it is for."""
        due = []
        number = 0
        with self._lock:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now and number < ROUND_STREAMS:
                _, topic = self._due.popleft()
                topic.is_due = False
                streams = [stream for stream in topic.streams if _must_be_told(stream, topic)]
                for stream in streams:
                    stream.revision = topic.revision
                    stream.events += 1
                number += len(streams)
                due.append((topic.user, topic.revision, streams))
        if number:
            pokes_sent.send(number)
        return [(changed(user, revision), streams) for user, revision, streams in due if streams]

    def parked(self) -> list[Stream]:
        """Return all parked streams."""
        with self._lock:
            streams = [stream for topic in self._topics.values() for stream in topic.streams]
        return [stream for stream in streams if stream.connection is not None]


def _must_be_told(stream: Stream, topic: Topic) -> bool:
    return stream.connection is not None and stream.revision != topic.revision
