"""A siege: processes at work, a mail server that misbehaves, and what was hit where."""

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
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from digest.models import State
from tests.chaos.doom import Mark
from tests.chaos.ledger import Ledger
from tests.chaos.record import Record
from tests.chaos.sender import DATABASE_GONE, go_on_alone
from tests.chaos.sink import Manners
from tests.chaos.verdict import Share

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds without any progress after which the harness gives up
JUST_NOW = 0.1  # seconds in which the result of a message may not be on disk yet
# APScheduler's thread says so when it is shut down while it takes a job that runs once off its
# list (apscheduler 3.11, BaseScheduler.remove_job); nothing is left for it to do then.
AT_SHUTDOWN = "apscheduler.jobstores.base.JobLookupError: "
LOOK = 0.002  # seconds between two looks at processes and at the record


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A disturbance, and where it struck."""

    at: float  # monotonic seconds
    struck: Sequence[str]  # the names of the processes
    role: str  # sender | writer | helper | scheduler | worker
    how: str  # kill | stop | database | one of CRASHES or PLANNING_CRASH
    where: str  # idle | claimed | sending | committing | rescue | planning
    claimed: int
    sending: int
    connections: int  # open then, from the sink's side
    unknown: int = 0  # rows, before the next one
    missed: int = 0  # attempts of one that was stopped that became unknown before it went on
    went_on: bool = False  # afterwards it works again


@dataclass(frozen=True, slots=True)
class Helper:
    """A process that another one started, and which sends for it."""

    name: str
    pid: int
    mark: Mark


@dataclass(slots=True)
class Player:
    """A running process of the harness's own."""

    name: str  # those of its connections are this, or end with it
    role: str
    process: subprocess.Popen[bytes]
    mark: Mark
    crash: str
    errors: Path
    # Since when its session with the database may be ended, so that it may end with that.
    excused_since: float | None = None
    family: dict[int, Helper] = field(default_factory=dict)
    buried: set[int] = field(default_factory=set)  # of the family

    @property
    def pid(self) -> int:
        return self.process.pid

    def helpers(self) -> list[Helper]:
        """All that it ever started, but for those that are known to have died."""
        for path in self.errors.parent.glob(f"{self.name}.mark.*"):
            name = path.suffix.removeprefix(".")
            if name.isdigit() and int(name) not in self.family:
                self.family[int(name)] = Helper(f"{name}.{self.name}", int(name), Mark(path))
        return [one for pid, one in self.family.items() if pid not in self.buried]


class Stuck(Exception):
    """Nothing moves, or a process ended that nobody killed."""


class Siege:
    """What all campaigns have: processes, a mail server, and a list of kills."""

    def __init__(
        self, folder: Path, tell: Callable[[Kill], None], *, seed: int, most: int, manners: Manners
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.kills: list[Kill] = []
        self.record = Record(folder / "record.jsonl")
        self._folder, self._tell, self._manners = folder, tell, manners
        self._seed, self._dice = seed, random.Random(seed)
        # A limit that the workers share; one that has just begun does not know of the others yet.
        self._most = most
        self._players: list[Player] = []
        self._begun = 0
        self._pids: dict[str, int] = {}
        self._allowed = Counter[str]()  # unknown attempts that the kills of each may have made

    @property
    def _ledger(self) -> Ledger:
        raise NotImplementedError

    # -------------------------------------------------------------- the mail server

    @contextmanager
    def _sink(self) -> Iterator[int]:
        """Its port; it ends with its input, so it cannot outlive the harness."""
        command = [sys.executable, "-m", "tests.chaos.sink", str(self.record.path)]
        with subprocess.Popen(
            [*command, self._manners.to_json(), str(self._seed)],
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

    # -------------------------------------------------------------- the processes

    def _start(
        self, role: str, module: str, crash: str, orders: Callable[[str, Path], str]
    ) -> Player:
        """Start one; `orders` makes what it is told from its name and the file of its mark."""
        self._begun += 1
        name = f"{role}-{self._begun}.example.org"
        errors, mark = self._folder / f"{name}.errors", self._folder / f"{name}.mark"
        told, shown = orders(name, mark), Mark(mark)
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, told],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=file,
                preexec_fn=go_on_alone,  # noqa: PLW1509 -- this process has one thread
            )
        player = Player(name, role, process, shown, crash, errors)
        self._players.append(player)
        self._pids[name] = process.pid
        return player

    def _fallen(self) -> Player | None:
        """One that has ended; Stuck if it had no reason to."""
        for player in self._players:
            code = player.process.poll()
            if code is None:
                continue
            if code == -signal.SIGKILL and player.mark.died_at:
                return player
            if code == DATABASE_GONE and self._is_excused(player):
                return player
            raise Stuck(f"{player.name} ended by itself with {code}: {_last_words(player)}")
        return None

    def _is_excused(self, player: Player) -> bool:
        """Whether it may still not have noticed that its session with the database was ended.

        Who got two mails through on one connection has: between them there was a commit.
        """
        since = player.excused_since
        if since is None:
            return False
        self.record.follow()
        since_then = Counter(
            mail.connection
            for mail in self.record.accepted
            if mail.at > since and self.record.name_of(mail).endswith(player.name)
        )
        return max(since_then.values(), default=0) < 2

    def _fell(self) -> bool:
        """Whether somebody fell; it is written down and buried."""
        for player in self._players:
            for helper in player.helpers():
                if moment := helper.mark.died_at:
                    held = Counter({State.SENDING: helper.mark.sending})
                    self._note(player.crash, [helper], held, since=moment, until=moment)
                    player.buried.add(helper.pid)
                    player.crash = ""
                    return True
        fallen = self._fallen()
        if fallen is None:
            return False
        if moment := fallen.mark.died_at:
            self._note(fallen.crash, [fallen], self._held([fallen]), since=moment, until=moment)
        self._bury(fallen)
        return True

    def _bury(self, player: Player) -> None:
        player.process.wait(PATIENCE)
        assert player.process.stdin is not None
        player.process.stdin.close()
        self._players.remove(player)
        words = player.errors.read_text()
        accidents = words.count("Traceback") - words.count(AT_SHUTDOWN)
        if player.excused_since is None and accidents:
            raise Stuck(f"{player.name} had an accident: {_last_words(player)}")

    def _end_all(self) -> None:
        for player in list(self._players):
            player.process.kill()
            player.process.wait(PATIENCE)
            assert player.process.stdin is not None
            player.process.stdin.close()
        self._players.clear()

    def _dismiss_all(self) -> None:
        """Have all end as they are told to in the service."""
        for player in self._players:
            player.process.send_signal(signal.SIGTERM)
        for player in list(self._players):
            # Who had not yet begun to listen is ended by the signal itself.
            fine = {0, -signal.SIGTERM}
            fine |= {DATABASE_GONE} if self._is_excused(player) else set()
            if player.process.wait(PATIENCE) not in fine:
                raise Stuck(f"{player.name} did not end well: {_last_words(player)}")
            self._bury(player)

    # -------------------------------------------------------------- kills

    def _halt(self, victim: Player | Helper) -> tuple[float, float]:
        """Stop a process; when that was, between two moments."""
        since = time.monotonic()
        if isinstance(victim, Player):
            victim.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, victim.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        else:
            process = psutil.Process(victim.pid)
            process.suspend()
            while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                time.sleep(LOOK)
        return since, time.monotonic()

    def _go_on(self, victim: Player | Helper) -> None:
        os.kill(victim.pid, signal.SIGCONT)

    def _kill(self, victim: Player | Helper, moment: tuple[float, float]) -> None:
        """Kill one that was stopped at that moment, and write it down."""
        held = self._held([victim])
        self._note("kill", [victim], held, since=moment[0], until=moment[1])
        if isinstance(victim, Player):
            victim.process.kill()
            self._bury(victim)
            return
        os.kill(victim.pid, signal.SIGKILL)
        for player in self._players:
            if victim.name.endswith(player.name):
                player.buried.add(victim.pid)

    def _held(self, struck: Sequence[Player | Helper]) -> Counter[State]:
        """What they have in hand; a helper's rows stand under its keeper's name."""
        found = Counter[State]()
        for one in struck:
            if isinstance(one, Player):
                found += self._ledger.held_by(one.pid)
            else:
                found[State.SENDING] += one.mark.sending
        return found

    def _note(
        self,
        how: str,
        struck: Sequence[Player | Helper],
        held: Counter[State],
        *,
        since: float,
        until: float,
    ) -> None:
        """Write down what was hit, between two moments."""

        def at(what: int) -> bool:
            return any(one.mark.is_at(what) for one in struck)

        if at(Mark.PLANNING):
            where = "planning"
        elif at(Mark.RESCUE):
            where = "rescue"
        elif at(Mark.COMMITTING):
            where = "committing"
        elif held[State.SENDING]:
            where = "sending"
        else:
            where = "claimed" if held[State.CLAIMED] else "idle"
        self._tell_last()
        self.record.follow()
        connections = 0
        for one in struck:
            found = self._connections(one.name, since, until)
            connections += found
            self._allowed[self._family(one.name)] += found
        self.kills.append(
            Kill(
                at=until,
                struck=[one.name for one in struck],
                role=_role(struck[0]) if len({_role(one) for one in struck}) == 1 else "all",
                how=how,
                where=where,
                claimed=held[State.CLAIMED],
                sending=held[State.SENDING],
                connections=connections,
            )
        )

    def _family(self, name: str) -> str:
        return next(one for one in self._pids if name.endswith(one))

    def _connections(self, name: str, since: float, until: float) -> int:
        """How many may have carried what no commit has the result of.

        One that ended a moment ago counts, but its successor then does not: none of the processes
        ever has more than there may be in all.
        """
        found = self.record.open_between(since - JUST_NOW, until, name)
        return sum(min(count, self._most) for count in found.values())

    def _tell_last(self) -> None:
        """The last kill is complete when the next one comes: it shows what was unknown by then."""
        if self.kills:
            unknown = self._ledger.states()[State.UNKNOWN]
            self.kills[-1] = replace(self.kills[-1], unknown=unknown)
            self._tell(self.kills[-1])

    def _shares(self) -> dict[str, Share]:
        """For each process, its attempts that ended unknown, and how many can be explained."""
        doubts = Counter(
            self._family(self.record.visits[number].name)
            for number in self.record.doubtful
            if self.record.visits[number].name
        )
        return {
            name: Share(
                found=self._ledger.unknowns_of(pid), allowed=self._allowed[name] + doubts[name]
            )
            for name, pid in self._pids.items()
        }

    # -------------------------------------------------------------- patience

    def _looks(self, problem: str) -> Iterator[None]:
        """Look again and again, until nothing has come to the sink for too long."""
        seen, deadline = -1, time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.record.follow()
            if len(self.record.accepted) != seen:
                seen, deadline = len(self.record.accepted), time.monotonic() + PATIENCE
            yield
            time.sleep(LOOK)
        raise Stuck(f"{problem}: {dict(self._ledger.states())}")


def _role(one: Player | Helper) -> str:
    return one.role if isinstance(one, Player) else "helper"


def _last_words(player: Player) -> str:
    return player.errors.read_text()[-3000:]
