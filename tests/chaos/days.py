"""Days of a whole house: schedulers and workers read, plan and deliver, and are killed at it.

What was to arrive is worked out here from the calendar; what did arrive, from the sink's record.
On SQLite one scheduler does everything. On PostgreSQL there are two, and three workers, on two
machines whose clocks are an hour apart.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle, product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from digest.models import Frequency, State, Wishes
from digest.pipeline.reporting import Report
from digest.services import Services, build
from digest.settings import Settings
from digest.storage import subscribers
from digest.storage.database import open_database, writing
from digest.storage.migrating import upgrade
from tests.chaos.doom import CRASHES, PLANNING_CRASH, Mark
from tests.chaos.keeper import FAST, MACHINES, Orders, business
from tests.chaos.ledger import Ledger
from tests.chaos.siege import ROOT, Kill, Player, Siege
from tests.chaos.sink import Manners
from tests.chaos.verdict import Evidence, Key, Verdict, judge
from tests.house import KEY
from tests.running import free_port

DAY = timedelta(days=1)
STARTS = datetime(2026, 3, 27, tzinfo=UTC)  # a Friday; Europe's clocks go forward on the Sunday
ENDS = timedelta(hours=18, minutes=30)  # of the last day: hours before the next slot
HOURS = (
    ("Pacific/Auckland", 7),
    ("Asia/Kolkata", 9),
    ("Europe/Berlin", 8),
    ("America/New_York", 6),
    ("America/Los_Angeles", 7),
    ("UTC", 12),
)
RHYTHMS = (
    (Frequency.DAILY, None),
    (Frequency.DAILY, None),
    (Frequency.DAILY, None),
    (Frequency.WEEKDAYS, None),
    (Frequency.WEEKLY, 6),
)
WARMING_UP = 4.0  # seconds until the clock begins
BREATH = 1.5  # seconds, at least, between two kills
MOMENT = 0.02  # seconds after somebody began to plan within which he is struck
DOOMED = (PLANNING_CRASH, *CRASHES)
USUAL, SLOWEST = 1.0, 4.0  # seconds to start a process; times as long, at the most
MANY_SENT = 0.5  # the least share of the digests that arrives: the house is not just killed

FAULTY = Manners(
    wait=0.03,
    late=0.005,
    late_wait=3.0,
    gone_before=0.02,
    gone_within=0.01,
    gone_after=0.01,
    refuse=0.02,
    surely=25,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What to try."""

    name: str
    url: str  # an empty database
    kills: int
    seed: int
    days: int = 3
    manners: Manners = FAULTY
    mutant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    address: str
    wishes: Wishes


def people() -> list[Person]:
    """All rhythms at all hours."""
    return [
        Person(
            address=f"reader{number}@example.org",
            wishes=Wishes(zone=zone, hour=hour, frequency=frequency, weekday=weekday, max_papers=3),
        )
        for number, ((zone, hour), (frequency, weekday)) in enumerate(product(HOURS, RHYTHMS))
    ]


def expected(found: Sequence[Person], *, start: datetime, end: datetime) -> set[Key]:
    """The addresses and slots of the calendar, without the code under test."""
    keys, day = set(), start.date() - DAY
    while day <= end.date() + DAY:
        for person in found:
            wishes = person.wishes
            local = datetime(
                day.year, day.month, day.day, wishes.hour, tzinfo=ZoneInfo(wishes.zone)
            )
            wanted = {
                Frequency.DAILY: True,
                Frequency.WEEKDAYS: day.weekday() < 5,
                Frequency.WEEKLY: day.weekday() == wishes.weekday,
            }[wishes.frequency]
            if wanted and start <= local <= end:
                keys.add((person.address, day.isoformat()))
        day += DAY
    return keys


def _slowness() -> float:
    """How much longer than usual it takes to start a process on this machine as busy as it is.

    The business clock goes slower by that, or the house could not keep up with its own days.
    """
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import tests.chaos.keeper"], cwd=ROOT, check=True)
    return (time.monotonic() - began) / USUAL


class Days(Siege):
    """A house over some days; `run` is all there is to call."""

    def __init__(self, house: House, folder: Path, tell: Callable[[Kill], None]) -> None:
        super().__init__(folder, tell, seed=house.seed, most=12, manners=house.manners)
        self.house = house
        self._shared = house.url.startswith("postgresql")
        self._crashes = cycle(DOOMED)
        self._end = STARTS + (house.days - 1) * DAY + ENDS
        self.expected = expected(people(), start=STARTS, end=self._end)
        self._speed = FAST / min(max(_slowness(), 1.0), SLOWEST)
        self._seconds = (self._end - STARTS).total_seconds() / self._speed
        self._web_port = free_port()
        self._services = self._move_in()
        self._began = 0.0
        self._port = 0
        self._wanted = ("scheduler",) if not self._shared else ("scheduler",) * 2 + ("worker",) * 3

    def _move_in(self) -> Services:
        engine = open_database(self.house.url)
        upgrade(engine)
        engine.dispose()
        services = build(Settings(**self._values("own", port=1)))
        newcomers = [services.newcomer(one.address, one.wishes) for one in people()]
        with writing(services.engine) as connection:
            subscribers.add_many(connection, newcomers, now=STARTS)
        return services

    def _values(self, machine: str, port: int) -> dict[str, Any]:
        return {
            "base_url": "https://digest.example.org",
            "web_port": self._web_port,
            "data_dir": str(self._folder / machine),
            "database_url": self.house.url,
            "secret_key": [KEY],
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_tls": "none",
            "smtp_timeout": 2.0,  # longer than the wait, shorter than what comes late
            "smtp_final_timeout": 6.0,
            "smtp_connections": 6,
            "sender_address": "digest@example.org",
            "postal_address": "Example Lab, 1 Example Street, 12345 Example Town",
            "mx_lookups": False,
            "min_score": 0.0,
            "rise_votes": 1,
            "deliver_interval": 0.1,
            "catch_up_hours": 24,
            "drain_seconds": 10,
            "retry_steps_minutes": [20],
        }

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self._services.engine)

    def run(self) -> Verdict:
        """Let the days pass, disturb, finish, judge. Raises Stuck when it comes to no end."""
        try:
            with self._sink() as self._port:
                try:
                    self._began = time.time() + WARMING_UP
                    self._disturb()
                    self._finish()
                    self._tell_last()
                    self._dismiss_all()
                finally:
                    self._end_all()
                self._hear_all()
            verdict = judge(
                Evidence(
                    planned=dict.fromkeys(self.expected, ()),
                    ledger=self._ledger.rows(),
                    accepted=self.record.accepted,
                    unknowns_allowed=self._allowed.total() + self.record.doubts,
                    shares=self._shares(),
                )
            )
            return replace(verdict, breaches=[*verdict.breaches, *self._shortcomings(verdict)])
        finally:
            self._services.engine.dispose()

    # -------------------------------------------------------------- the house

    def _now(self) -> datetime:
        return business(self._orders("", "", "", Path()), lambda: datetime.now(UTC))

    def _orders(self, name: str, role: str, crash: str, mark: Path) -> Orders:
        machine = MACHINES[self._begun % 2] if self._shared else MACHINES[0]
        return Orders(
            name=f"{machine}.{name}",
            role=role,
            settings=self._values(machine, self._port),
            machine=machine,
            starts=STARTS.timestamp(),
            began=self._began,
            span=(self._end - STARTS).total_seconds(),
            speed=self._speed,
            mark=str(mark),
            crash=crash,
            passes=1 if crash in ("during rescue", PLANNING_CRASH) else self._dice.randint(1, 6),
            mutant=self.house.mutant,
        )

    def _man(self, *, crashing: bool) -> None:
        """Start those who are missing; every third has a place to die at."""
        there = [player.role for player in self._players]
        for role in set(self._wanted):
            for _ in range(self._wanted.count(role) - there.count(role)):
                able = role == "worker" or not self._shared  # here a scheduler only defers
                doomed = crashing and able and self._begun % 3 == 2
                crash = next(self._crashes) if doomed else ""

                def orders(name: str, mark: Path, role: str = role, crash: str = crash) -> str:
                    return self._orders(name, role, crash, mark).to_json()

                self._start(role, "tests.chaos.keeper", crash, orders)

    # -------------------------------------------------------------- disturbing

    def _disturb(self) -> None:
        """Kills spread over the days, of one who plans, of a scheduler, and so on in turn.

        The first two are waited for: without them nothing would be shown.
        """
        seconds = self._seconds
        first, last = self._began + 2.0, self._began + seconds
        pause = (seconds - 4.0) / max(1, self.house.kills)
        turns = cycle(("planning", "scheduler", "sending", "any"))
        for number in range(self.house.kills):
            moment = first + (number + self._dice.random() * 0.8) * pause
            until = last if number < 2 else first + (number + 1) * pause
            turn = next(turns)
            while time.time() < moment:
                self._tend()
            while not self._strike(turn) and time.time() < until:
                self._tend()
            until = time.time() + BREATH
            while time.time() < until:
                self._tend()

    def _tend(self) -> None:
        self.record.follow()
        self._man(crashing=True)
        self._fell()
        time.sleep(0.002)

    def _strike(self, turn: str) -> bool:
        """Kill somebody; False when there is nobody to be killed like that now."""
        talking = {visit.name for visit in self.record.visits.values() if visit.closed is None}
        found = [
            player
            for player in self._players
            if turn == "any"
            or (turn == "scheduler" and player.role == "scheduler")
            or (turn == "planning" and player.mark.is_at(Mark.PLANNING))
            or (turn == "sending" and any(name.endswith(player.name) for name in talking))
        ]
        if not found:
            return False
        victim: Player = self._dice.choice(found)
        time.sleep(self._dice.random() * MOMENT if turn == "planning" else 0.0)
        if victim.process.poll() is not None:
            return False
        moment = self._halt(victim)
        missed = {
            "planning": not victim.mark.is_at(Mark.PLANNING),
            "sending": not self._held([victim])[State.SENDING],
        }
        if missed.get(turn):
            self._go_on(victim)
            return False
        self._kill(victim, moment)
        return True

    # -------------------------------------------------------------- finishing

    def _finish(self) -> None:
        """Until the last slot has passed and all that is expected has its end."""
        deadline = time.monotonic() + 3 * self._seconds
        for _ in self._looks("the house does not finish"):
            over = self._now() > self._end
            self._man(crashing=not over)
            self._fell()
            rows = self._ledger.rows() if over else {}
            if over and self.expected <= rows.keys() and not self._ledger.waiting():
                return
            if time.monotonic() > deadline:
                return  # the verdict says what is not there
            time.sleep(0.05)

    def report(self) -> Report:
        """What the product itself says of these days."""
        services = replace(self._services, clock=lambda: self._end)
        return services.report(self._end - STARTS)

    def _shortcomings(self, verdict: Verdict) -> list[str]:
        """What the verdict does not look at: the product's own report, and that all took part."""
        report, wanted = self.report(), len(self.expected)
        machines = {self.record.name_of(mail).partition(".")[0] for mail in self.record.accepted}
        sent = verdict.states.get(State.SENT, 0)
        found = {
            f"{report.missing} missing by the report": report.missing,
            f"{report.due} due by the report, {wanted} by the calendar": report.due != wanted,
            "the report does not add up": sum(report.states.values()) != wanted,
            f"only {sent} of {wanted} sent": sent < MANY_SENT * wanted,
            "a mail shows no papers": not all(mail.papers for mail in self.record.accepted),
            f"mail of {machines} alone": machines != set(MACHINES[: 1 + self._shared]),
            "no kill hit planning": all(kill.where != "planning" for kill in self.kills),
            "no kill hit a scheduler": all(kill.role != "scheduler" for kill in self.kills),
        }
        return [sentence for sentence, wrong in found.items() if wrong]
