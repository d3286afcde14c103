"""The commands that run the stages: collect, plan, deliver, and all three in turn."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from digest.cli.output import count, fail, say, show_json, show_table, waiting
from digest.cli.setup import AsJson, Now, Really, acting
from digest.errors import InputError
from digest.pipeline.ending import Asked

if TYPE_CHECKING:
    from digest.pipeline.planning import Planned
    from digest.pipeline.sending import Delivered
    from digest.services import Services
    from digest.storage.sources import Read


def collect(now: Now = "", *, really: Really = False, as_json: AsJson = False) -> None:
    """Read all sources now and store what they say."""
    found = acting(now, really=really)
    with waiting("Reading the sources"):
        reads = found.collect()
    if as_json:
        show_json(reads)
    else:
        show_reads(reads)
    _exit_for(_unread(reads))


def plan(now: Now = "", *, really: Really = False, as_json: AsJson = False) -> None:
    """Choose and freeze the digests that are due."""
    found = acting(now, really=really)
    with waiting("Planning"):
        planned = found.plan_due()
    if as_json:
        show_json(planned)
    else:
        _show_planned(planned)
    _exit_for(_unmade(planned))


def deliver(
    now: Now = "",
    *,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="How many processes send at once.")
    ] = 1,
    really: Really = False,
    as_json: AsJson = False,
) -> None:
    """Send what is planned and due.

    Ends with 0 when all of it was sent, with 1 when something was not, with 3 when a signal ended
    it before that, and with 4 when a second one did so at once: what was under way is unknown.
    """
    if now and processes > 1:
        raise InputError("--now and --processes do not go together: each process has its own time.")
    delivered = _deliver(acting(now, really=really), processes=processes)
    if as_json:
        show_json(delivered)
    else:
        _show_delivered(delivered)
    _exit_early(delivered)
    _exit_for(_troubles(delivered))


def run(now: Now = "", *, really: Really = False, as_json: AsJson = False) -> None:
    """One whole pass: collect, plan what is due, deliver."""
    found = acting(now, really=really)
    with waiting("Reading the sources"):
        reads = found.collect()
    with waiting("Planning"):
        planned = found.plan_due()
    delivered = _deliver(found)
    if as_json:
        show_json({"collected": reads, "planned": planned, "delivered": delivered})
    else:
        show_reads(reads)
        _show_planned(planned)
        _show_delivered(delivered)
    _exit_early(delivered)
    _exit_for([*_unread(reads), *_unmade(planned), *_troubles(delivered)])


def _deliver(found: Services, *, processes: int = 1) -> Delivered:
    """Deliver; on a signal what is under way ends first, for nobody may wonder what arrived."""
    with waiting("Sending"), found.relays() as relays:
        postman = found.postman(relays, processes=processes)

        asked = Asked()

        def end(_number: int, _frame: object) -> None:
            if asked.anew():
                postman.halt() if postman.is_stopped else postman.stop()

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, end) for number in numbers}
        try:
            return postman.deliver()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def show_reads(reads: Sequence[Read], *, when: bool = False) -> None:
    """How each source was read: counts in a table, and below it why one gave none."""
    show_table(
        (
            "Source",
            *(["Read at"] if when else []),
            "Health",
            "Papers",
            "New",
            "Changed",
            "Same",
            "Seconds",
        ),
        [
            (
                read.source,
                *([f"{read.started_at:%Y-%m-%d %H:%M}Z"] if when else []),
                read.health,
                read.fetched,
                read.new,
                read.changed,
                read.unchanged,
                f"{read.seconds:.1f}",
            )
            for read in reads
        ],
        right=("Papers", "New", "Changed", "Same", "Seconds"),
    )
    say()
    for read in reads:
        if read.reason:
            say(f"{read.source}: {read.reason}")


def _unread(reads: Sequence[Read]) -> list[str]:
    return [f"{read.source} ({read.health})" for read in reads if not read.health.good]


def _show_planned(planned: Planned) -> None:
    without = sum(planned.skipped.values())
    say(
        f"Planned {count(planned.digests, 'digest')}"
        + (f", and {without:,} without papers ({by_reason(planned.skipped)})." if without else ".")
    )


def by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason or 'unexplained'} {n:,}" for reason, n in sorted(counts.items()))


def _show_delivered(delivered: Delivered) -> None:
    counts = ", ".join(f"{n:,} {state}" for state, n in sorted(delivered.states.items()) if n)
    say(f"Delivered: {counts or 'nothing was due'}.")
    if delivered.problem:
        say(f"The mail server could not be used: {delivered.problem}")
    if delivered.died:
        say(f"{delivered.died} died: what they were sending is unknown.")


def _unmade(planned: Planned) -> list[str]:
    broken = planned.skipped.get("error", 0)
    return [f"{count(broken, 'digest')} that could not be made"] if broken else []


def _troubles(delivered: Delivered) -> list[str]:
    from digest.models import State

    found = [
        f"{delivered.states[state]:,} {state}"
        for state in (State.FAILED, State.UNKNOWN, State.DEFERRED)
        if delivered.states.get(state)
    ]
    found += [f"{delivered.died} died"] if delivered.died else []
    return [*found, "the mail server"] if delivered.problem else found


def _exit_early(delivered: Delivered) -> None:
    if delivered.hard:
        fail("Ended at once: what was under way is unknown. See: digest status", code=4)
    if delivered.stopped:
        fail("Ended early: what was under way is sent, the rest waits.", code=3)


def _exit_for(troubles: list[str]) -> None:
    if troubles:
        fail(f"Not all went well: {', '.join(troubles)}. See: digest status", code=1)
