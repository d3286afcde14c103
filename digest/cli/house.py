"""Commands that run the stages, show their state and set things up."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digest.cli.output import fail, say, show_json, show_table
from digest.cli.setup import AsJson, Now, Really, acting, services
from digest.errors import InputError

if TYPE_CHECKING:
    from digest.pipeline.delivering import Delivered
    from digest.pipeline.planning import Planned
    from digest.pipeline.reporting import Report
    from digest.services import Services
    from digest.storage.sources import Read


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (
        run,
        collect,
        plan,
        deliver,
        preview,
        status,
        serve,
        migrate,
        config,
        send_test,
        demo,
    ):
        app.command()(command)


def collect(now: Now = "", *, really: Really = False, as_json: AsJson = False) -> None:
    """Read all sources now and store what they say."""
    reads = acting(now, really=really).collect()
    if as_json:
        show_json(reads)
    else:
        _show_reads(reads)
    _exit_for([read.source for read in reads if not read.health.good])


def plan(now: Now = "", *, really: Really = False, as_json: AsJson = False) -> None:
    """Choose and freeze the digests that are due."""
    planned = acting(now, really=really).plan_due()
    if as_json:
        show_json(planned)
    else:
        _show_planned(planned)


def deliver(now: Now = "", *, really: Really = False, as_json: AsJson = False) -> None:
    """Send what is planned and due."""
    delivered = _deliver(acting(now, really=really))
    if as_json:
        show_json(delivered)
    else:
        _show_delivered(delivered)
    _exit_for(_troubles(delivered))


def run(now: Now = "", *, really: Really = False, as_json: AsJson = False) -> None:
    """One whole pass: collect, plan what is due, deliver."""
    found = acting(now, really=really)
    reads = found.collect()
    planned = found.plan_due()
    delivered = _deliver(found)
    if as_json:
        show_json({"collected": reads, "planned": planned, "delivered": delivered})
    else:
        _show_reads(reads)
        _show_planned(planned)
        _show_delivered(delivered)
    bad = [read.source for read in reads if not read.health.good]
    _exit_for([*bad, *_troubles(delivered)])


def _deliver(found: Services) -> Delivered:
    with found.relay() as server:
        return found.postman(server).deliver()


def _show_reads(reads: list[Read]) -> None:
    show_table(
        ("Source", "Health", "Fetched", "New", "Changed", "Unchanged", "Seconds", "Why"),
        [
            (
                read.source,
                read.health,
                read.fetched,
                read.new,
                read.changed,
                read.unchanged,
                f"{read.seconds:.1f}",
                read.reason,
            )
            for read in reads
        ],
        right=("Fetched", "New", "Changed", "Unchanged", "Seconds"),
    )


def _show_planned(planned: Planned) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(planned.skipped.items()))
    say(f"Planned: {planned.digests} digests" + (f"; without one: {reasons}" if reasons else ""))


def _show_delivered(delivered: Delivered) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(delivered.states.items()))
    say(f"Delivered: {counts or 'nothing was due'}")
    if delivered.recovered:
        say(f"Unknown: {delivered.recovered}, because a process died while it sent them")
    if delivered.problem:
        say(f"The mail server could not be used: {delivered.problem}")


def _troubles(delivered: Delivered) -> list[str]:
    from digest.models import State

    found = [
        f"{delivered.states[state]} {state}"
        for state in (State.FAILED, State.UNKNOWN, State.DEFERRED)
        if delivered.states.get(state)
    ]
    return [*found, "mail server"] if delivered.problem else found


def _exit_for(troubles: list[str]) -> None:
    if troubles:
        fail(f"Not all went well: {', '.join(troubles)}. See: digest status", code=1)


def preview(
    address: Annotated[str, typer.Argument(help="A subscriber's address.")],
    *,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the HTML there.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Print the text body.")] = False,
    now: Now = "",
    as_json: AsJson = False,
) -> None:
    """Show somebody's next digest without sending or storing anything."""
    from digest.pipeline.planning import preview as draft
    from digest.rendering import compose
    from digest.storage import subscribers
    from digest.storage.database import reading
    from digest.suppression import address_key

    found = services(now, quiet=True)
    with reading(found.engine) as connection:
        subscriber = subscribers.find(connection, address_key(address))
    if subscriber is None:
        raise InputError(f"{address} is no subscriber. See: digest subscriber list")
    made = draft(found.engine, found.plan, subscriber.id, now=found.clock())
    if as_json:
        show_json({"slot": made.slot.date, "due_at": made.slot.due_at, "choice": made.choice})
        return
    if made.skeleton is None or made.personal is None:
        say(f"There is nothing to send for {made.slot.date}: {made.choice.reason}.")
        return
    cards = [(c, item.card) for c, item in zip(made.cards, made.choice.items, strict=True)]
    page, plain = compose(made.skeleton, cards, made.personal)
    if html is not None:
        html.write_text(page, encoding="utf-8")
        say(f"Written to {html}")
    if text or html is None:
        say(plain)


def status(
    days: Annotated[int, typer.Option(min=1, max=90, help="How far back to count.")] = 7,
    *,
    now: Now = "",
    as_json: AsJson = False,
) -> None:
    """Does the ledger add up, how are the sources, who did not get a mail, and why."""
    report = services(now, quiet=True).report(timedelta(days=days))
    if as_json:
        show_json(_report(report))
    else:
        _show_report(report, days=days)
    if report.missing:
        fail(f"{report.missing} slots have no row: planning has not run. See: digest plan", code=1)


def _report(report: Report) -> dict[str, Any]:
    return {
        "start": report.start,
        "end": report.end,
        "due": report.due,
        "missing": report.missing,
        "waiting": report.waiting,
        **{str(state): count for state, count in report.states.items()},
        "reasons": report.reasons,
        "failures": report.failures,
        "account_mail": report.account_mail,
        "sources": report.sources,
    }


def _show_report(report: Report, *, days: int) -> None:
    from digest.models import State

    states = report.states
    shown = (State.SENT, State.FAILED, State.SKIPPED, State.UNKNOWN, State.DEFERRED)
    terms = " + ".join(f"{states[state]} {state}" for state in shown)
    say(f"Digests due in the last {days} days:")
    say(f"  {report.due} due = {terms} + {report.waiting} waiting + {report.missing} missing")
    for (state, reason), count in report.reasons.items():
        say(f"    {count} {state}: {reason}")
    if report.failures:
        show_table(
            ("Delivery", "Subscriber", "Due", "State", "Code", "The server's words"),
            [
                (
                    row["id"],
                    row["subscriber_id"],
                    f"{row['due_at']:%Y-%m-%d %H:%M}Z",
                    f"{row['state']}: {row['reason']}",
                    row["code"] or "",
                    row["text"],
                )
                for row in report.failures
            ],
        )
    if any(report.account_mail.values()):
        mails = ", ".join(f"{n} {state}" for state, n in report.account_mail.items() if n)
        say(f"Account mail: {mails}")
    say("Sources, at their last read:")
    show_table(
        ("Source", "Read at", "Health", "New", "Changed", "Why"),
        [
            (
                read.source,
                f"{read.started_at:%Y-%m-%d %H:%M}Z",
                read.health,
                read.new,
                read.changed,
                read.reason,
            )
            for read in report.sources
        ],
        right=("New", "Changed"),
    )


def serve() -> None:
    """Serve the pages alone; the scheduler does so too."""
    from digest.web.build import build as web
    from digest.web.server import WebServer, listen

    found = services()
    settings = found.settings
    listener = listen(settings.web_host, settings.web_port)
    with WebServer(web(found), listener):
        say(f"Serving on {settings.base_url} (Ctrl-C ends it)")
        threading.Event().wait()


def migrate() -> None:
    """Bring the database's tables to this version."""
    from digest.settings import load
    from digest.storage.database import open_database
    from digest.storage.migrating import upgrade

    before, after = upgrade(open_database(load(os.environ, Path(".env")).database_url))
    if before == after:
        say(f"The database is at revision {after} already.")
    else:
        say(f"The database went from {before or 'empty'} to revision {after}.")


def config(*, as_json: AsJson = False) -> None:
    """Print all settings, secrets masked, and where each came from."""
    from digest.settings import describe, load

    rows = describe(load(os.environ, Path(".env")))
    if as_json:
        show_json(rows)
    else:
        show_table(
            ("Setting", "Value", "From"), [(row.name, row.value, row.origin) for row in rows]
        )


def send_test(
    address: Annotated[str, typer.Argument(help="Where to send a test mail.")],
) -> None:
    """Send one test mail now, to see whether the mail server takes it."""
    from digest.errors import DeliveryError
    from digest.pipeline.testing import send_test as send

    found = services(quiet=True)
    try:
        with found.relay() as server:
            receipt = send(server, address, site=found.site, now=found.clock())
    except DeliveryError as error:
        fail(f"The mail server did not take it: {error}", code=1)
    say(f"{receipt.relay} took it: {receipt.code} {receipt.text}")
    if found.settings.local:
        say(f"It is in the local inbox: {found.settings.base_url}/inbox/")


def demo(
    *, once: Annotated[bool, typer.Option("--once", help="End after the run.")] = False
) -> None:
    """Run the main job once with sample subscribers and a local inbox, and show the result."""
    from digest.cli.demo import run_demo

    raise typer.Exit(run_demo(serve=not once))
