"""A campaign: senders at work, disturbed until they were killed often enough, then let finish."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import cycle
from pathlib import Path

from digest.models import State
from tests.chaos.doom import CRASHES
from tests.chaos.house import move_in
from tests.chaos.ledger import Ledger
from tests.chaos.sender import Orders
from tests.chaos.siege import Helper, Kill, Player, Siege
from tests.chaos.sink import Manners
from tests.chaos.verdict import Evidence, Verdict, judge

FEEDING = 0.5  # seconds between two looks whether enough is left to send
STEP_AFTER = 4.0  # seconds until the business clock steps back
TRIES = 500  # to catch a sender while it sends

ROUGH = Manners(
    wait=0.03,
    late=0.002,
    late_wait=3.0,  # longer than the wait for a command's answer, shorter than for a content's
    gone_before=0.01,
    gone_within=0.005,
    gone_after=0.01,
    refuse=0.01,
    storm=0.002,
    storm_length=0.3,
    surely=30,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What to try: the same seed makes the same choices, if not the same timing."""

    name: str
    url: str  # an empty database
    kills: int
    seed: int
    workers: int = 1  # on SQLite one process that keeps the books of so many
    connections: int = 4  # for each worker
    policy: str = "keep"
    people: int = 40
    size: int = 0  # bytes of a content, at least
    between: int | None = None  # mails, at least, before a disturbance; None leaves it to chance
    manners: Manners = ROUGH
    mutant: str = ""
    strikes: Sequence[str] = ("kill",)  # kill | stop | database: chosen from at random
    crashes: Sequence[str] = CRASHES  # taken in turn: where senders that are doomed die
    doomed: int = 2  # every so manieth sender is
    restart: Callable[[], None] | None = None  # of the database
    rate: float | None = None  # the limit in messages a second, for all workers together
    skew: timedelta = timedelta(0)  # between the clocks of one worker and the next
    step_back: timedelta = timedelta(0)  # that the business clock goes back by after a while


class Campaign(Siege):
    """One trial under way; `run` is all there is to call."""

    def __init__(self, trial: Trial, folder: Path, tell: Callable[[Kill], None]) -> None:
        most = trial.connections * trial.workers
        super().__init__(folder, tell, seed=trial.seed, most=most, manners=trial.manners)
        self.trial = trial
        self._crashes = cycle(trial.crashes)
        self._house = move_in(trial.url, folder, people=trial.people, size=trial.size)
        alone = trial.url.startswith("sqlite")
        self._wanted, self._processes = (1, trial.workers) if alone else (trial.workers, 1)
        self._port = 0
        # Monotonic seconds, when the business clock goes back.
        self.stepped_at = time.monotonic() + STEP_AFTER if trial.step_back else None

    @property
    def _ledger(self) -> Ledger:
        return self._house.ledger

    def run(self) -> Verdict:
        """Disturb, finish, judge. Raises Stuck when it cannot come to an end."""
        try:
            with self._sink() as self._port:
                try:
                    self._disturb()
                    self._finish()
                finally:
                    self._end_all()
                self._hear_all()
            return judge(
                Evidence(
                    planned=self._house.planned,
                    ledger=self._ledger.rows(),
                    accepted=self.record.accepted,
                    unknowns_allowed=self._allowed.total() + self.record.doubts,
                    shares=self._shares(),
                    resend=self.trial.policy == "resend",
                )
            )
        finally:
            self._ledger.engine.dispose()

    # -------------------------------------------------------------- the senders

    def _man(self, *, crashing: bool) -> None:
        """Start the senders that are missing; some have a place to die at."""
        while len(self._players) < self._wanted:
            doomed = crashing and self.trial.crashes and (self._begun + 1) % self.trial.doomed == 0
            self._send(next(self._crashes) if doomed else "")

    def _send(self, crash: str) -> None:
        def orders(name: str, mark: Path) -> str:
            return Orders(
                name=name,
                url=self.trial.url,
                port=self._port,
                folder=str(self._folder),
                connections=self._most,
                processes=self._processes,
                policy=self.trial.policy,
                rate=self.trial.rate,
                skew=self._begun % self.trial.workers * self.trial.skew.total_seconds(),
                began=self._house.began.timestamp(),
                steps_at=self.stepped_at,
                step_back=self.trial.step_back.total_seconds(),
                mark=str(mark),
                crash=crash,
                passes=1 if crash == "during rescue" else self._dice.randint(1, 12),
                mutant=self.trial.mutant,
            ).to_json()

        role = "writer" if self._processes > 1 else "sender"
        self._start(role, "tests.chaos.sender", crash, orders)

    # -------------------------------------------------------------- disturbing

    def _disturb(self) -> None:
        share = 3 * self.trial.connections
        while len(self.kills) < self.trial.kills:
            self._man(crashing=True)
            # Every second disturbance is left to one that is doomed: it has the time for it.
            turn = len(self.kills) % self.trial.doomed == self.trial.doomed - 1
            if turn and any(player.crash for player in self._players):
                wait = 4 * share
            else:
                wait = self.trial.between or self._dice.randint(1, share)
            target, feed_at = len(self.record.accepted) + wait, 0.0
            for _ in self._looks("nothing is sent"):
                if time.monotonic() >= feed_at:
                    self._feed(wait + share)
                    feed_at = time.monotonic() + FEEDING
                if self._fell():
                    break
                if len(self.record.accepted) >= target and self._are_at_work():
                    time.sleep(self._dice.random() * self.trial.manners.wait)
                    self._strike()
                    break

    def _are_at_work(self) -> bool:
        """Whether all senders got mail through, which only a trial with time for it asks for."""
        if self.trial.between is None:
            return True
        names = {self.record.name_of(mail) for mail in self.record.accepted}
        return names.issuperset(player.name for player in self._players)

    def _feed(self, enough: int) -> None:
        while self._ledger.waiting() < enough:
            self._house.plan_another_day()

    def _strike(self) -> None:
        strike = self._dice.choice(self.trial.strikes)
        if strike == "database" and self.trial.restart is not None:
            self._restart_database(self.trial.restart)
        elif strike == "stop":
            self._hold_up()
        else:
            # Who is to die when it rescues needs something to rescue.
            fruitful = "during rescue" in self.trial.crashes[:1] and not self.kills
            victim, moment = self._halt_sending() if fruitful else self._halt_any()
            self._kill(victim, moment)

    def _halt_any(self) -> tuple[Player | Helper, tuple[float, float]]:
        victim = self._victim()
        return victim, self._halt(victim)

    def _victim(self) -> Player | Helper:
        """Anybody, but rather one that is not doomed and has a connection.

        After a writer it is a helper's turn, where there are any, so that both are struck.
        """
        busy = {visit.name for visit in self.record.visits.values() if visit.closed is None}
        players = [player for player in self._players if not player.crash] or self._players
        family: list[Player | Helper] = [*players]
        after_writer = bool(self.kills) and self.kills[-1].role == "writer"
        for player in players:
            family += [helper for helper in player.helpers() if helper.name in busy]
        talking = [
            one for one in family if any(name.endswith(one.name) for name in busy)
        ] or players
        helpers = [one for one in talking if isinstance(one, Helper)]
        return self._dice.choice(helpers if after_writer and helpers else talking)

    def _halt_sending(self) -> tuple[Player | Helper, tuple[float, float]]:
        """Stop somebody that is sending; who is not goes on at once."""
        for _ in range(TRIES):
            self.record.follow()
            victim = self._victim()
            moment = self._halt(victim)
            if self._held([victim])[State.SENDING]:
                break
            self._go_on(victim)
            time.sleep(self._dice.random() * 0.02)
            self._feed(1)
        return victim, moment

    def _hold_up(self) -> None:
        """Let one that was stopped go on only when others have taken it for dead."""
        victim, (since, until) = self._halt_sending()
        assert isinstance(victim, Player)
        self._note("stop", [victim], self._held([victim]), since=since, until=until)
        before = self._ledger.unknowns_of(victim.pid)
        for _ in self._looks("nobody misses a worker that stands still"):
            self._fell()
            self._man(crashing=False)
            if not self._ledger.is_listed(victim.pid):
                break
        missed = self._ledger.unknowns_of(victim.pid) - before
        victim.excused_since = time.monotonic()
        self._go_on(victim)
        went_on = self._goes_on(victim)
        self.kills[-1] = replace(self.kills[-1], missed=missed, went_on=went_on)

    def _goes_on(self, victim: Player) -> bool:
        """Whether one that was let go is on the list of workers again, and did not end instead."""
        for _ in self._looks("one that was stopped does not go on"):
            self._feed(1)
            if victim.process.poll() is not None or self._ledger.is_listed(victim.pid):
                break
        return victim.process.poll() is None

    def _restart_database(self, restart: Callable[[], None]) -> None:
        since, held = time.monotonic(), self._held(self._players)
        restart()
        for player in self._players:
            player.excused_since = time.monotonic()
        self._note("database", self._players, held, since=since, until=time.monotonic())

    # -------------------------------------------------------------- finishing

    def _finish(self) -> None:
        """Nobody disturbs any more: all that is open must end, and the senders must stop."""
        for _ in self._looks("digests still wait"):
            self._man(crashing=False)
            if not self._fell() and not self._open():
                break
        self._tell_last()
        self._dismiss_all()

    def _open(self) -> int:
        """How many digests still wait; under `resend` those that are unknown do too."""
        states: Counter[State] = self._ledger.states()
        unknown = states[State.UNKNOWN] if self.trial.policy == "resend" else 0
        return self._ledger.waiting() + unknown
