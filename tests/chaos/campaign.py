"""A campaign: senders at work, disturbed until they were killed often enough, then let finish."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import cycle
from pathlib import Path

from digest.models import State
from tests.chaos.house import move_in
from tests.chaos.record import Record
from tests.chaos.sender import CRASHES, DATABASE_GONE, Mark, Orders
from tests.chaos.sink import Manners
from tests.chaos.verdict import Evidence, Verdict, judge

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds without any progress after which the harness gives up
JUST_NOW = 0.1  # seconds in which the result of a message may not be on disk yet
FEEDING = 0.5  # seconds between two looks whether enough is left to send
LOOK = 0.002  # seconds between two looks at processes and at the record

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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What to try: the same seed makes the same choices, if not the same timing."""

    name: str
    url: str  # an empty database
    kills: int
    seed: int
    workers: int = 1
    connections: int = 4  # for each worker
    policy: str = "keep"
    people: int = 40
    between: int | None = None  # mails, at least, before a disturbance; None leaves it to chance
    manners: Manners = ROUGH
    mutant: str = ""
    strikes: Sequence[str] = ("kill",)  # kill | stop | database: chosen from at random
    crashes: bool = True  # every second sender has a place to die at
    restart: Callable[[], None] | None = None  # of the database
    rate: float | None = None  # the limit in messages a second, for all workers together
    skew: timedelta = timedelta(0)  # between the clocks of one worker and the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A disturbance, and where it struck."""

    at: float  # monotonic seconds
    struck: Sequence[str]  # the names of the senders
    how: str  # kill | stop | database | one of CRASHES
    where: str  # idle | claimed | sending | committing | rescue
    claimed: int
    sending: int
    connections: int  # open then, from the sink's side
    unknown: int = 0  # rows, before the next one


@dataclass(slots=True)
class Sender:
    """A running process."""

    name: str
    process: subprocess.Popen[bytes]
    mark: Mark
    crash: str
    errors: Path
    excused: bool = False  # its session with the database was ended; so it may end with that


class Stuck(Exception):
    """Nothing moves, or a process ended that nobody killed."""


class Campaign:
    """One trial under way; `run` is all there is to call."""

    def __init__(self, trial: Trial, folder: Path, tell: Callable[[Kill], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.trial = trial
        self.kills: list[Kill] = []
        self._folder, self._tell = folder, tell
        self._dice = random.Random(trial.seed)
        first = trial.seed % len(CRASHES)  # so that trials of a few kills differ
        self._crashes = cycle(CRASHES[first:] + CRASHES[:first])
        self._house = move_in(trial.url, folder, people=trial.people)
        self.record = Record(folder / "record.jsonl")
        self._senders: list[Sender] = []
        self._begun = 0
        self._port = 0
        # A limit that the workers share; one that has just begun does not know of the others yet.
        self._most = trial.connections * trial.workers

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
                    ledger=self._house.ledger(),
                    accepted=self.record.accepted,
                    unknowns_allowed=sum(kill.connections for kill in self.kills)
                    + self.record.doubts,
                    resend=self.trial.policy == "resend",
                )
            )
        finally:
            self._house.office.engine.dispose()

    # -------------------------------------------------------------- the mail server

    @contextmanager
    def _sink(self) -> Iterator[int]:
        """Its port; it ends with its input, so it cannot outlive the harness."""
        command = [sys.executable, "-m", "tests.chaos.sink", str(self.record.path)]
        with subprocess.Popen(
            [*command, self.trial.manners.to_json(), str(self.trial.seed)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                yield int(process.stdout.readline())
            finally:
                process.stdin.close()

    def _hear_all(self) -> None:
        """Wait until the sink has noticed that everybody is gone."""
        for _ in self._looks("the sink still talks to somebody"):
            if all(visit.closed is not None for visit in self.record.visits.values()):
                return

    # -------------------------------------------------------------- the senders

    def _man(self, *, crashing: bool) -> None:
        """Start the senders that are missing; every second one has a place to die at."""
        while len(self._senders) < self.trial.workers:
            self._begun += 1
            doomed = crashing and self.trial.crashes and self._begun % 2 == 0
            crash = next(self._crashes) if doomed else ""
            self._senders.append(self._start(crash))

    def _start(self, crash: str) -> Sender:
        name = f"sender-{self._begun}.example.org"
        errors, mark = self._folder / f"{name}.errors", self._folder / f"{name}.mark"
        orders = Orders(
            name=name,
            url=self.trial.url,
            port=self._port,
            folder=str(self._folder),
            connections=self._most,
            policy=self.trial.policy,
            rate=self.trial.rate,
            skew=self._begun % self.trial.workers * self.trial.skew.total_seconds(),
            began=self._house.began.timestamp(),
            mark=str(mark),
            crash=crash,
            passes=1 if crash == "during rescue" else self._dice.randint(1, 12),
            mutant=self.trial.mutant,
        )
        shown = Mark(mark)
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.sender", orders.to_json()],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        return Sender(name, process, shown, crash, errors)

    def _fallen(self) -> Sender | None:
        """A sender that has ended; Stuck if it had no reason to."""
        for sender in self._senders:
            code = sender.process.poll()
            if code is None:
                continue
            if code == -signal.SIGKILL and sender.crash:
                return sender
            if code == DATABASE_GONE and sender.excused:
                return sender
            raise Stuck(
                f"{sender.name} ended by itself with {code}: {sender.errors.read_text()[-2000:]}"
            )
        return None

    def _bury(self, sender: Sender) -> None:
        sender.process.wait(PATIENCE)
        assert sender.process.stdin is not None
        sender.process.stdin.close()
        self._senders.remove(sender)

    def _end_all(self) -> None:
        for sender in list(self._senders):
            sender.process.kill()
            self._bury(sender)

    # -------------------------------------------------------------- disturbing

    def _disturb(self) -> None:
        while len(self.kills) < self.trial.kills:
            self._man(crashing=True)
            share = 3 * self.trial.connections
            if all(sender.crash for sender in self._senders):
                wait = 4 * share  # give them the time to do it themselves
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
        return names.issuperset(sender.name for sender in self._senders)

    def _feed(self, enough: int) -> None:
        while self._house.waiting() < enough:
            self._house.plan_another_day()

    def _fell(self) -> bool:
        """Whether a sender fell; it is written down and buried."""
        fallen = self._fallen()
        if fallen is None:
            return False
        if fallen.process.returncode != DATABASE_GONE:
            moment = fallen.mark.died_at
            self._note(fallen.crash, [fallen], self._held([fallen]), since=moment, until=moment)
        self._bury(fallen)
        return True

    def _strike(self) -> None:
        match self._dice.choice(self.trial.strikes):
            case "database" if self.trial.restart is not None:
                self._restart_database(self.trial.restart)
            case "stop":
                self._hold_up(self._halted("stop"))
            case _:
                victim = self._halted("kill")
                victim.process.kill()
                self._bury(victim)

    def _halted(self, how: str) -> Sender:
        """Choose a sender, stop it, and write down what it has in hand."""
        busy = {visit.name for visit in self.record.visits.values() if visit.closed is None}
        victims = [sender for sender in self._senders if not sender.crash] or self._senders
        victims = [sender for sender in victims if sender.name in busy] or victims
        victim = self._dice.choice(victims)
        since, pid = time.monotonic(), victim.process.pid
        victim.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        until = time.monotonic()
        self._note(how, [victim], self._held([victim]), since=since, until=until)
        return victim

    def _hold_up(self, victim: Sender) -> None:
        """Let a stopped sender go on only when others have taken it for dead."""
        for _ in self._looks("nobody misses a worker that stands still"):
            self._fell()
            self._man(crashing=False)
            if not self._house.is_listed(victim.process.pid):
                break
        victim.excused = True
        victim.process.send_signal(signal.SIGCONT)

    def _restart_database(self, restart: Callable[[], None]) -> None:
        since, held = time.monotonic(), self._held(self._senders)
        for sender in self._senders:
            sender.excused = True
        restart()
        self._note("database", self._senders, held, since=since, until=time.monotonic())

    def _held(self, senders: Sequence[Sender]) -> Counter[State]:
        return sum(
            (self._house.held_by(sender.process.pid) for sender in senders), Counter[State]()
        )

    def _note(
        self,
        how: str,
        struck: Sequence[Sender],
        held: Counter[State],
        *,
        since: float,
        until: float,
    ) -> None:
        """Write down what was hit, between two moments."""
        marks = {sender.mark.value for sender in struck}
        if Mark.RESCUE in marks:
            where = "rescue"
        elif Mark.COMMITTING in marks:
            where = "committing"
        elif held[State.SENDING]:
            where = "sending"
        else:
            where = "claimed" if held[State.CLAIMED] else "idle"
        self._tell_last()
        self.record.follow()
        self.kills.append(
            Kill(
                at=until,
                struck=[sender.name for sender in struck],
                how=how,
                where=where,
                claimed=held[State.CLAIMED],
                sending=held[State.SENDING],
                connections=sum(self._connections(sender, since, until) for sender in struck),
            )
        )

    def _connections(self, sender: Sender, since: float, until: float) -> int:
        """How many may have carried what no commit has the result of.

        One that ended a moment ago counts, but its successor then does not.
        """
        found = self.record.open_between(since - JUST_NOW, until, sender.name)
        return min(found, self._most)

    def _tell_last(self) -> None:
        """The last kill is complete when the next one comes: it shows what was unknown by then."""
        if self.kills:
            unknown = self._house.states()[State.UNKNOWN]
            self.kills[-1] = replace(self.kills[-1], unknown=unknown)
            self._tell(self.kills[-1])

    # -------------------------------------------------------------- finishing

    def _finish(self) -> None:
        """Nobody disturbs any more: all that is open must end, and the senders must stop."""
        for _ in self._looks("digests still wait"):
            self._man(crashing=False)
            if not self._fell() and not self._open():
                break
        self._tell_last()
        for sender in list(self._senders):
            sender.process.send_signal(signal.SIGTERM)
            # Who had not yet begun to listen is ended by the signal itself.
            fine = {0, -signal.SIGTERM} | ({DATABASE_GONE} if sender.excused else set())
            if sender.process.wait(PATIENCE) not in fine:
                raise Stuck(f"{sender.name} did not end well: {sender.errors.read_text()[-2000:]}")
            self._bury(sender)

    def _open(self) -> int:
        """How many digests still wait; under `resend` those that are unknown do too."""
        unknown = self._house.states()[State.UNKNOWN] if self.trial.policy == "resend" else 0
        return self._house.waiting() + unknown

    def _looks(self, problem: str) -> Iterator[None]:
        """Look again and again, until nothing has come to the sink for too long."""
        seen, deadline = -1, time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.record.follow()
            if len(self.record.accepted) != seen:
                seen, deadline = len(self.record.accepted), time.monotonic() + PATIENCE
            yield
            time.sleep(LOOK)
        raise Stuck(f"{problem}: {dict(self._house.states())}")
