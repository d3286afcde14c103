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
from pathlib import Path
from typing import Any

from tests.chaos.campaign import Campaign, Trial
from tests.chaos.doom import CRASHES
from tests.chaos.house import postgres
from tests.chaos.sender import MUTANTS
from tests.chaos.siege import Kill, Stuck
from tests.chaos.verdict import Verdict

COLUMNS = "{:>4}  {:<24} {:<11} {:>8} {:>8} {:>12} {:>8}"
HEAD = COLUMNS.format("kill", "how", "where", "claimed", "sending", "connections", "unknown")


def tell(line: str = "") -> None:
    print(line, flush=True)  # noqa: T201 -- a program for people


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="in all trials together")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--workers", type=int, choices=[1, 3], action="append")
    parser.add_argument("--policy", choices=["keep", "resend"], action="append")
    parser.add_argument("--connections", type=int, default=4, help="of each worker")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="")
    return parser.parse_args(given)


@dataclass(slots=True)
class Totals:
    """All trials together."""

    kills: list[Kill] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)

    def add(self, trial: Trial, kills: Sequence[Kill], verdict: Verdict) -> None:
        self.kills += kills
        self.verdicts.append(verdict)
        self.breaches += [f"{trial.name}: {breach}" for breach in verdict.breaches]

    def judge_kills(self) -> None:
        """At least half of the kills land while something is being sent."""
        while_sending = sum(kill.sending > 0 for kill in self.kills)
        if 2 * while_sending < len(self.kills):
            self.breaches.append(
                f"only {while_sending} of {len(self.kills)} kills landed while rows were sending"
            )


def trials(asked: argparse.Namespace, folder: Path, stack: ExitStack) -> Iterator[Trial]:
    """The kills are shared out evenly; each trial has a database of its own."""
    kinds = [
        (database, workers, policy)
        for database in asked.database or ("sqlite", "postgresql")
        for workers in asked.workers or (1, 3)
        for policy in asked.policy or ("keep", "resend")
    ]
    server = None
    for number, (database, workers, policy) in enumerate(kinds):
        if database == "postgresql" and server is None:
            server = stack.enter_context(postgres())
        durable = server if database == "postgresql" else None
        yield Trial(
            name=f"{database}, {workers} worker{'s' * (workers > 1)}, {policy}",
            url=durable.create(f"trial_{number}") if durable else f"sqlite:///{folder}/{number}.db",
            kills=(asked.kills * (number + 1)) // len(kinds) - (asked.kills * number) // len(kinds),
            seed=asked.seed + number,
            workers=workers,
            connections=asked.connections,
            policy=policy,
            mutant=asked.mutant,
            # Without another worker nobody would miss one that is stopped.
            strikes=(*["kill"] * 8, *["database"] * bool(durable), *["stop"] * (workers > 1))
            if durable
            else ("kill",),
            restart=durable.restart if durable else None,
        )


def run(trial: Trial, folder: Path, totals: Totals) -> None:
    """One trial, with its table and its totals."""
    told: list[Kill] = []

    def show(kill: Kill) -> None:
        told.append(kill)
        cells = (kill.claimed, kill.sending, kill.connections, kill.unknown)
        tell(COLUMNS.format(len(told), kill.how, kill.where, *cells))

    started = time.monotonic()
    tell(f"\n{trial.name} (seed {trial.seed})\n{HEAD}")
    campaign = Campaign(trial, folder, show)
    verdict = campaign.run()
    totals.add(trial, campaign.kills, verdict)
    seconds = time.monotonic() - started
    tell(f"{verdict.accepted} accepted; {_counts(verdict.states)}; in {seconds:.0f} s")
    tell(f"the sink's faults: {_counts(campaign.record.faults)}")
    tell(
        f"lost {verdict.lost}, sent twice {verdict.twice}, unknown {verdict.unknowns}"
        f" of at most {verdict.unknowns_allowed}"
    )


def _counts(found: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(found.items())) or "none"


def main(given: Sequence[str]) -> int:
    asked, totals = _arguments(given), Totals()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="digest-chaos-")))
        for trial in trials(asked, folder, stack):
            try:
                run(trial, folder / trial.name, totals)
            except Stuck as error:
                totals.breaches.append(f"{trial.name}: stuck: {error}")
    totals.judge_kills()
    tell(
        f"\n{len(totals.kills)} kills, {sum(kill.sending > 0 for kill in totals.kills)} of them"
        f" while rows were sending; landed: {_counts(Counter(k.where for k in totals.kills))}"
    )
    tell(f"crash points: {_counts(Counter(k.how for k in totals.kills if k.how in CRASHES))}")
    lost, twice = (sum(getattr(v, name) for v in totals.verdicts) for name in ("lost", "twice"))
    tell(f"{lost} lost, {twice} sent twice")
    for breach in totals.breaches:
        tell(f"BREACH: {breach}")
    return 1 if totals.breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
