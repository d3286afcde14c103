"""`python -m tests.chaos --kills N`: exit 1 on any breach; the same seed makes the same choices."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from tests.chaos.campaign import Campaign, Trial
from tests.chaos.days import DOOMED, Days, House
from tests.chaos.doom import CRASHES
from tests.chaos.house import postgres
from tests.chaos.sender import MUTANTS
from tests.chaos.siege import Kill, Stuck
from tests.chaos.verdict import Verdict

VARIED = 20  # kills from which all places to die at, and all faults, must have occurred
FAULTS = ("storm", "late", "gone before", "gone within", "gone after", "refused")
SIZE = 57_000  # bytes, of a digest of fifteen papers: so that a kill may land in mid-body
LEAST, KILLS_A_DAY = 4, 4  # of a house: it takes ten seconds a day
COLUMNS = "{:>4}  {:<9} {:<29} {:<11} {:>8} {:>8} {:>12} {:>8}"
HEAD = COLUMNS.format("kill", "who", "how", "where", "claimed", "sending", "connections", "unknown")


def tell(line: str = "") -> None:
    print(line, flush=True)  # noqa: T201 -- a program for people


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="in all trials together")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--workers", type=int, choices=[1, 3], action="append")
    parser.add_argument("--policy", choices=["keep", "resend"], action="append")
    parser.add_argument(
        "--kind",
        choices=["senders", "house"],
        action="append",
        help="digests that lie ready, or all",
    )
    parser.add_argument("--connections", type=int, default=4, help="of each worker")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="")
    return parser.parse_args(given)


@dataclass(slots=True)
class Totals:
    """All trials together."""

    kills: list[Kill] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, siege: Campaign | Days, verdict: Verdict) -> None:
        self.kills += siege.kills
        self.faults += siege.record.faults
        self.verdicts.append(verdict)
        self.breaches += [f"{name}: {breach}" for breach in verdict.breaches]

    def judge_kills(self, *, mailing: Sequence[Kill]) -> None:
        """At least half of the kills land while something is being sent, the random ones alone too.

        `mailing` are those of campaigns in which there is always something to send.
        """
        chance = [kill for kill in mailing if kill.how not in CRASHES]
        for kills, what in ((mailing, "kills"), (chance, "random kills")):
            while_sending = sum(kill.sending > 0 for kill in kills)
            if 2 * while_sending < len(kills):
                self.breaches.append(
                    f"only {while_sending} of {len(kills)} {what} landed while rows were sending"
                )

    def judge_variety(self) -> None:
        """Each place to die at and each kind of fault occurred."""
        hows = {kill.how for kill in self.kills}
        self.breaches += [f"nobody died at: {one}" for one in CRASHES if one not in hows]
        self.breaches += [
            f"the sink never did this: {one}"
            for one in FAULTS
            if not any(fault.startswith(one) for fault in self.faults)
        ]


def trials(asked: argparse.Namespace, folder: Path, stack: ExitStack) -> Iterator[Trial | House]:
    """The kills are shared out evenly; each trial has a database of its own."""
    databases = asked.database or ("sqlite", "postgresql")
    asked_for = asked.kind or ("senders", "house")
    kinds = [
        (database, workers, policy)
        for database in databases
        for workers in asked.workers or (1, 3)
        for policy in asked.policy or ("keep", "resend")
        if "senders" in asked_for
    ]
    houses = [database for database in databases if "house" in asked_for and not asked.mutant]
    server = stack.enter_context(postgres()) if "postgresql" in databases else None
    shares = iter(_shares(asked.kills, len(kinds) + len(houses)))

    def url(database: str, name: str) -> str:
        if database == "sqlite":
            return f"sqlite:///{folder}/{name}.db"
        assert server is not None
        return server.create(name)

    for number, (database, workers, policy) in enumerate(kinds):
        durable = server if database == "postgresql" else None
        places = number % len(CRASHES)  # so that trials of a few kills differ
        yield Trial(
            name=f"{database}, {workers} worker{'s' * (workers > 1)}, {policy}",
            url=url(database, f"trial_{number}"),
            kills=next(shares),
            seed=asked.seed + number,
            workers=workers,
            connections=asked.connections,
            policy=policy,
            size=SIZE if policy == "keep" else 0,
            mutant=asked.mutant,
            crashes=CRASHES[places:] + CRASHES[:places],
            # Without another worker nobody would miss one that is stopped.
            strikes=(*["kill"] * 8, *["database"] * bool(durable), *["stop"] * (workers > 1))
            if durable
            else ("kill",),
            restart=durable.restart if durable else None,
        )
    for database in houses:
        kills = max(LEAST, next(shares))
        yield House(
            name=f"{database}, a whole house",
            url=url(database, "house"),
            kills=kills,
            seed=asked.seed,
            days=max(3, ceil(kills / KILLS_A_DAY)),
        )


def _shares(total: int, count: int) -> list[int]:
    return [(total * (number + 1)) // count - (total * number) // count for number in range(count)]


def run(trial: Trial | House, folder: Path, totals: Totals) -> list[Kill]:
    """One trial, with its table and its totals."""
    told: list[Kill] = []

    def show(kill: Kill) -> None:
        told.append(kill)
        cells = (kill.claimed, kill.sending, kill.connections, kill.unknown)
        tell(COLUMNS.format(len(told), kill.role, kill.how, kill.where, *cells))

    started = time.monotonic()
    tell(f"\n{trial.name} (seed {trial.seed})\n{HEAD}")
    begin = partial(Days, trial) if isinstance(trial, House) else partial(Campaign, trial)
    siege: Campaign | Days = begin(folder, show)
    verdict = siege.run()
    totals.add(trial.name, siege, verdict)
    seconds = time.monotonic() - started
    tell(f"{verdict.accepted} accepted; {_counts(verdict.states)}; in {seconds:.0f} s")
    tell(f"the sink's faults: {_counts(siege.record.faults)}")
    tell(
        f"lost {verdict.lost}, sent twice {verdict.twice}, unknown {verdict.unknowns}"
        f" of at most {verdict.unknowns_allowed}"
    )
    return [] if isinstance(trial, House) else list(siege.kills)


def _counts(found: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(found.items())) or "none"


def main(given: Sequence[str]) -> int:
    asked, totals = _arguments(given), Totals()
    mailing: list[Kill] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="digest-chaos-")))
        for trial in trials(asked, folder, stack):
            try:
                mailing += run(trial, folder / trial.name, totals)
            except Stuck as error:
                totals.breaches.append(f"{trial.name}: stuck: {error}")
    totals.judge_kills(mailing=mailing)
    if asked.kills >= VARIED and "senders" in (asked.kind or ("senders",)):
        totals.judge_variety()
    tell(
        f"\n{len(totals.kills)} kills, {sum(kill.sending > 0 for kill in totals.kills)} of them"
        f" while rows were sending; landed: {_counts(Counter(k.where for k in totals.kills))}"
    )
    tell(f"crash points: {_counts(Counter(k.how for k in totals.kills if k.how in DOOMED))}")
    lost, twice = (sum(getattr(v, name) for v in totals.verdicts) for name in ("lost", "twice"))
    tell(f"{lost} lost, {twice} sent twice")
    for breach in totals.breaches:
        tell(f"BREACH: {breach}")
    return 1 if totals.breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
