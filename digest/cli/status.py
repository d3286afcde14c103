"""The command that shows the state of the house: once, or again and again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digest.cli.output import count, fail, say, show_json
from digest.cli.setup import AsJson, Now, services
from digest.cli.stages import by_reason, show_reads

if TYPE_CHECKING:
    from digest.pipeline.reporting import Report

AGAIN = 2.0  # seconds between two looks
SHOWN = 5  # receiving providers
RESOLVE = "digest delivery --help"
CLEAR = "\x1b[H\x1b[2J"  # ECMA-48: the cursor to the top, the screen emptied


def status(
    days: Annotated[int, typer.Option(min=1, max=90, help="How far back to count.")] = 7,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds.")] = False,
    now: Now = "",
    as_json: AsJson = False,
) -> None:
    """Does the ledger add up, how are the sources, who did not get a mail, and why."""
    found, span = services(now), timedelta(days=days)
    if watch:
        try:
            while True:
                _show_again(found.report(span), days=days, as_json=as_json)
                time.sleep(AGAIN)
        except KeyboardInterrupt:
            return
        except BrokenPipeError:  # whoever read it has had enough; nothing is left to flush to
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    report = found.report(span)
    if as_json:
        _show_json(report)
    else:
        _show(report, days=days)
    if report.overdue:
        overdue = count(report.overdue, "slot")
        fail(f"{overdue} without a row: planning has not run. See: digest plan", code=1)


def _show_again(report: Report, *, days: int, as_json: bool) -> None:
    """A screen that is drawn anew, or one report after another where nobody looks."""
    if as_json:
        _show_json(report, indent=None)
    elif sys.stdout.isatty():
        sys.stdout.write(CLEAR)
        _show(report, days=days)
    else:
        _show(report, days=days)
        say()
    sys.stdout.flush()


def _show_json(report: Report, *, indent: int | None = 2) -> None:
    from digest.pipeline.reporting import summary

    show_json(summary(report), indent=indent)


def _show(report: Report, *, days: int) -> None:
    for alert in report.alerts:
        say(f"Alert since {_at(alert.since)}: {alert.text}")
    if report.alerts:
        say()
    _show_ledger(report, days=days)
    _show_failures(report.failures)
    _show_engine(report)
    if any(report.account_mail.values()):
        mails = ", ".join(f"{n:,} {state}" for state, n in report.account_mail.items() if n)
        say(f"Account mail: {mails}.")
        say()
    if report.sources:
        show_reads(report.sources, when=True)
    else:
        say("No source was read yet. See: digest collect")


def _show_ledger(report: Report, *, days: int) -> None:
    from digest.models import State

    say(f"Digests due in the last {count(days, 'day')}:")
    say()
    for state in (State.SENT, State.FAILED, State.SKIPPED, State.UNKNOWN, State.DEFERRED):
        why = {reason: n for (found, reason), n in report.reasons.items() if found is state}
        say(f"  {state:<9}{report.states[state]:>9,}   {by_reason(why)}".rstrip())
    say(f"  waiting  {report.waiting:>9,}")
    say(f"  missing  {report.missing:>9,}")
    say(f"  {'':9}{'':─>9}")
    say(f"  due      {report.due:>9,}")
    say()


def _show_failures(failures: Sequence[Mapping[str, Any]]) -> None:
    """What did not arrive, or perhaps not, each with the mail server's words."""
    if not failures:
        return
    say("Not delivered, the newest first:")
    for row in failures:
        reason = f" ({row['reason']})" if row["reason"] else ""
        say(f"  {_at(row['due_at'])}  subscriber {row['subscriber_id']}: {row['state']}{reason}")
        if words := f"{row['code'] or ''} {row['text']}".strip():
            say(f"    {words}")
    say()


def _show_engine(report: Report) -> None:
    """What holds mail up, and who is at it."""
    if report.unresolved:
        mails = count(report.unresolved, "mail")
        say(f"Unknown: whether {mails} arrived. Resend or keep them: {RESOLVE}")
    for breaker in report.breakers:
        way = f"{breaker.relay} to {breaker.provider}" if breaker.provider else breaker.relay
        since = f" since {_at(breaker.opened_at)}" if breaker.opened_at else ""
        again = f" Next try: {_at(breaker.probe_at)}." if breaker.probe_at else ""
        say(f"Stopped{since}: {way}. {breaker.reason}{again}")
    if report.queues:
        longest = ", ".join(f"{queue.provider} {queue.rows:,}" for queue in report.queues[:SHOWN])
        more = ", ..." if len(report.queues) > SHOWN else ""
        oldest = min((queue.since for queue in report.queues if queue.since), default=None)
        since = f", the first since {_at(oldest)}" if oldest else ""
        waiting = sum(queue.rows for queue in report.queues)
        say(f"Waiting now: {count(waiting, 'mail')}{since} ({longest}{more}).")
    if report.serving is not None:
        hint = "" if report.serving else " Nobody sends or plans. See: digest worker --help"
        say(f"Workers: {report.serving}.{hint}")
    for worker in report.workers:
        say(
            f"Delivering: {worker.host}, process {worker.pid}, since {_at(worker.started_at)},"
            f" heartbeat {worker.silent:.0f} s ago."
        )
    if (
        report.unresolved
        or report.breakers
        or report.queues
        or report.workers
        or report.serving is not None
    ):
        say()


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}Z"
