"""`digest delivery`: what became of single mails, and what is done about those in doubt."""

from __future__ import annotations

import sys
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from digest.cli.output import count, fail, say, show_json, show_table
from digest.cli.setup import AsJson, services
from digest.errors import InputError, NotFound

if TYPE_CHECKING:
    from digest.services import Services
    from digest.storage.resolving import Attempt, Delivery, Moved

app = typer.Typer(
    help="Look at single mails; send again, or settle, those that are unknown.",
    no_args_is_help=True,
)


class Trouble(StrEnum):
    """The states in which a mail did not arrive, or perhaps not."""

    UNKNOWN = "unknown"
    FAILED = "failed"
    DEFERRED = "deferred"


class End(StrEnum):
    """What somebody may find out about a mail."""

    SENT = "sent"
    FAILED = "failed"


MOST = 2**63 - 1  # what a database's number holds
DeliveryId = Annotated[
    int, typer.Argument(metavar="ID", min=1, max=MOST, help="The mail's number; `list` shows it.")
]
DeliveryIds = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID", min=1, max=MOST, help="The mails' numbers; `list` shows them."),
]
AllUnknown = Annotated[bool, typer.Option("--all-unknown", help="All that are unknown.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before all are moved.")]


@app.command("list")
def list_(
    state: Annotated[
        list[Trouble] | None, typer.Option(help="Only these; repeatable. [default: all]")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=400, help="How far back to look.")] = 7,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many to show.")] = 100,
    *,
    as_json: AsJson = False,
) -> None:
    """List mail that is unknown, failed or deferred, the newest first."""
    from digest.models import State
    from digest.storage import resolving
    from digest.storage.database import reading

    found = services()
    states = [State(one) for one in state or Trouble]
    since = found.clock() - timedelta(days=days)
    with reading(found.engine) as connection:
        rows = resolving.troubled(connection, states, due_after=since, limit=limit + 1)
    if as_json:
        show_json([_masked(row) for row in rows[:limit]])
        return
    if not rows:
        say(f"No mail of the last {count(days, 'day')} is {' or '.join(states)}.")
        return
    show_table(
        ("Mail", "Due", "State", "Why", "To", "Provider", "The server's words"),
        [
            (
                str(row.id),
                f"{row.due_at:%Y-%m-%d %H:%M}Z",
                row.state,
                row.reason,
                _masked(row).address,
                row.provider,
                _words(row),
            )
            for row in rows[:limit]
        ],
    )
    if len(rows) > limit:
        say(f"These are the newest {limit:,}. More: --limit")


@app.command()
def show(delivery_id: DeliveryId, *, as_json: AsJson = False) -> None:
    """Show one mail: its state, and every attempt with the server's words."""
    from digest.models import State
    from digest.storage import resolving
    from digest.storage.database import reading

    with reading(services().engine) as connection:
        found = resolving.find(connection, delivery_id)
        attempts = resolving.attempts_of(connection, delivery_id)
    if found is None:
        raise NotFound(f"There is no mail {delivery_id}. See: digest delivery list")
    if as_json:
        show_json({"delivery": _masked(found), "attempts": attempts})
        return
    reason = f" ({found.reason})" if found.reason else ""
    say(f"Mail {found.id} to {_masked(found).address}, by {found.provider}: {found.state}{reason}")
    whose = f" of subscriber {found.subscriber_id}" if found.subscriber_id else ""
    slot = f" for {found.slot}" if found.slot else ""
    say(f"  {found.kind}{whose}{slot}, due {found.due_at:%Y-%m-%d %H:%M}Z")
    if found.state in (State.PLANNED, State.DEFERRED):
        say(f"  next attempt {found.next_attempt_at:%Y-%m-%d %H:%M}Z")
    if not attempts:
        say("No attempt is known; old ones are forgotten.")
        return
    show_table(
        ("Began", "Seconds", "Relay", "Provider", "Outcome", "The server's words"),
        [
            (
                f"{one.started_at:%Y-%m-%d %H:%M:%S}Z",
                "" if one.seconds is None else f"{one.seconds:.1f}",
                one.relay,
                one.provider,
                one.outcome,
                _words(one),
            )
            for one in attempts
        ],
        right=("Seconds",),
    )


@app.command()
def resend(
    delivery_ids: DeliveryIds = None,
    *,
    all_unknown: AllUnknown = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send unknown or failed mail again, with the same Message-ID.

    Unknown mail may have arrived: whoever has it then gets it twice.
    """
    from digest.configured import answer_wait
    from digest.storage import resolving
    from digest.storage.batches import planner
    from digest.storage.database import writing

    found = services()
    wanted = _wanted(found, delivery_ids, "Send %s again?", all_unknown=all_unknown, yes=yes)
    now, settings = found.clock(), found.settings
    with planner(found.engine, found.locks), writing(found.engine) as connection:
        outcome = resolving.resend(
            connection,
            wanted,
            answered_by=now - answer_wait(settings),
            give_up_at=now + timedelta(hours=settings.give_up_hours),
            now=now,
        )
    if not as_json and outcome.moved:
        say(f"{count(len(outcome.moved), 'mail')} will be sent again when mail is delivered next.")
        say("Whoever is not to be written to by then is skipped.")
    _tell(outcome, as_json=as_json)


@app.command()
def settle(
    delivery_ids: DeliveryIds = None,
    *,
    end: Annotated[End, typer.Option("--as", help="What became of it.")],
    all_unknown: AllUnknown = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Say of unknown mail whether it arrived, after the mail server's log was read.

    The papers of a digest that is settled as failed may be in a later one.
    """
    from digest.models import State
    from digest.storage import resolving
    from digest.storage.database import writing

    found = services()
    question = f"Settle %s as {end}?"
    wanted = _wanted(found, delivery_ids, question, all_unknown=all_unknown, yes=yes)
    with writing(found.engine) as connection:
        outcome = resolving.settle(connection, wanted, state=State(end), now=found.clock())
    if not as_json and outcome.moved:
        say(f"{count(len(outcome.moved), 'mail')} settled as {end}.")
    _tell(outcome, as_json=as_json)


def _wanted(
    found: Services, given: list[int] | None, question: str, *, all_unknown: bool, yes: bool
) -> list[int]:
    """Which mails are meant; InputError, and asks before it is all of them."""
    from digest.storage import resolving
    from digest.storage.database import reading

    if bool(given) == all_unknown:
        raise InputError("Name mails by their numbers, or all with --all-unknown.")
    if given:
        return given
    with reading(found.engine) as connection:
        wanted = resolving.unknown(connection)
    if wanted and not yes:
        if not sys.stdin.isatty():
            raise InputError("Nobody is there to be asked. Add --yes if that is what you want.")
        typer.confirm(question % count(len(wanted), "unknown mail"), abort=True, err=True)
    return wanted


def _tell(outcome: Moved, *, as_json: bool) -> None:
    """Say what was not moved, and why; exit code 1 if that is anything."""
    if as_json:
        left = [{"id": number, "reason": why} for number, why in outcome.left.items()]
        show_json({"moved": outcome.moved, "left": left})
    elif not outcome.moved and not outcome.left:
        say("Nothing is unknown.")
    else:
        for number, why in outcome.left.items():
            say(f"Mail {number}: {why}.")
    if outcome.left:
        fail(f"{count(len(outcome.left), 'mail')} left as it was.", code=1)


def _masked(row: Delivery) -> Delivery:
    from dataclasses import replace

    from digest.suppression import masked

    return replace(row, address=masked(row.address) if row.address else "somebody")


def _words(row: Delivery | Attempt) -> str:
    return f"{row.code or ''} {row.text}".strip()
