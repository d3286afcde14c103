"""The books: what a sending loop and the ledger say to one another, and by which rules."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, Protocol

from digest.delivery import Server
from digest.models import Limits, State
from digest.storage.breaker import Caution
from digest.storage.claims import Claim
from digest.storage.contents import Content
from digest.storage.ledger import Beginning, Result

BEAT = 1.0  # seconds between two heartbeats
LEASE = timedelta(seconds=15)  # without one for so long a worker is taken for dead

_NONE = Limits()
# Unlike the monotonic clock this one goes on while the machine sleeps (Linux).
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Seconds on a clock that nobody sets, the same in all processes of a machine."""
    return time.clock_gettime(_BOOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """A mail server, when it is used, and the most that it takes."""

    server: Server
    priority: int = 0  # the lowest that can be used is; equal ones share the work
    limits: Limits = field(default_factory=Limits)
    providers: Mapping[str, Limits] = field(default_factory=dict)  # "*" for all that have none

    @property
    def name(self) -> str:
        return self.server.name

    def limits_of(self, provider: str) -> Limits:
        """The limits on the way to a receiving provider."""
        return self.providers.get(provider) or self.providers.get("*") or _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is done about refusals and lost answers."""

    retry: Sequence[timedelta]  # waits between attempts; the last one repeats
    caution: Caution = field(default_factory=Caution)
    resend_unknown: timedelta | None = None  # after so long; None keeps them


class Order(NamedTuple):
    """A claimed row, what is to be sent, and the way it is to take."""

    claim: Claim
    content: Content
    route_id: int
    draws: tuple[int, ...] = ()  # the routes of which an allowance is needed before content leaves
    throttled: bool = False  # its receiving provider takes so many a second
    alone: bool = False  # tries a way that was stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What was claimed, and what keeps others waiting."""

    orders: Sequence[Order] = ()
    more: bool = False  # a limit does, for a moment
    stopped: Collection[str] = ()  # breakers do, for these receiving providers; "" for all
    closed: bool = False  # the relay takes nothing now, but a message that tries it: others may


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What one exchange left true."""

    begun: Collection[int]  # deliveries whose content may leave
    moved: Mapping[int, State]  # where the deliveries stand whose results were stored
    stopped: bool = False  # a breaker opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A worker's place among all that deliver."""

    rank: int = 0
    workers: int = 1
    known: bool = True  # to all who were there before, so that they have made room

    def share(self, total: int) -> int:
        """This worker's part of a limit that holds for all together; may be 0."""
        return (total + self.workers - 1 - self.rank) // self.workers if self.known else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """An allowance as the worker's own clock (`uptime`) has it."""

    count: int  # 0: ask again when `since` comes
    since: float
    until: float


class Books(Protocol):
    """What a sending loop needs of the ledger, here or in the one process that writes it."""

    def is_needed(self) -> bool:
        """Whether there is anything to do; only reads."""

    def enter(self) -> Standing:
        """Come on the list of workers, and settle what those who died left behind."""

    def beat(self) -> Standing:
        """Keep the lease; LeaseLost when it was taken away."""

    def claim(self, relay: str, room: int, held: Mapping[str, int], standing: Standing) -> Claimed:
        """Claim up to `room` rows for a relay; `held` counts those of each provider at hand."""

    def exchange(
        self, results: Sequence[Result], beginnings: Sequence[Beginning], returned: Collection[int]
    ) -> Exchanged:
        """Store results, begin the next attempts, give back claims: one commit for all."""

    def draw(self, wanted: Mapping[int, int], ahead: float) -> dict[int, Drawn]:
        """Draw allowances for routes, {route: how many are wanted}, from `ahead` seconds on.

        Those whose limit for the day is reached are left out.
        """

    def refund(self, unspent: Mapping[int, int]) -> None:
        """Give allowances back that expired."""

    def leave(self, states: Mapping[State, int], problem: str) -> None:
        """Give back all claims, go off the list, and note what was done."""
