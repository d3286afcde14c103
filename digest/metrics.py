"""What the connections of this process saw, counted so that the sending loop does not feel it.

Plain lists behind one lock, taken once for a batch: about 0.2 us a message. A process that has
children who send takes their counts with `take` and adds them to its own with `add`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock

# Seconds from the content to its answer: a local relay takes milliseconds, RFC 5321 allows 600 s.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)


def _buckets() -> list[int]:
    return [0] * (len(BOUNDS) + 1)


@dataclass(slots=True)
class Accepted:
    """The messages that a relay took."""

    buckets: list[int] = field(default_factory=_buckets)  # one for each bound, one for the rest
    seconds: float = 0.0  # of all together


@dataclass(slots=True)
class Counts:
    """What was seen of each relay."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)  # by relay and class


_seen = Counts()
_lock = Lock()


def observe_many(relay: str, seconds: Iterable[float]) -> None:
    """These messages were accepted, each so many seconds after its content began to go out."""
    with _lock:
        accepted = _seen.accepted.setdefault(relay, Accepted())
        buckets = accepted.buckets
        for each in seconds:
            buckets[bisect_left(BOUNDS, each)] += 1
            accepted.seconds += each


def refused(relay: str, code: int | None) -> None:
    """A relay said no, with this code, or (without one) the connection failed."""
    kind = "connection" if code is None else "421" if code == 421 else f"{code // 100}xx"
    with _lock:
        _seen.errors[relay, kind] += 1


def take() -> Counts:
    """What was seen since the last time, which is forgotten here."""
    global _seen
    with _lock:
        taken, _seen = _seen, Counts()
    return taken


def add(counts: Counts) -> None:
    """Count as seen here what another process took."""
    with _lock:
        _add(_seen, counts)


def seen() -> Counts:
    """A copy of what was seen until now."""
    copy = Counts()
    with _lock:
        _add(copy, _seen)
    return copy


def _add(total: Counts, more: Counts) -> None:
    for relay, accepted in more.accepted.items():
        known = total.accepted.setdefault(relay, Accepted())
        known.buckets = [a + b for a, b in zip(known.buckets, accepted.buckets, strict=True)]
        known.seconds += accepted.seconds
    total.errors.update(more.errors)
