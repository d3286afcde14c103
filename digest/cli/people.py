"""`digest subscriber`: who gets a digest, when, about what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from digest.cli.output import fail, say, show_json, show_table
from digest.cli.setup import AsJson, services
from digest.errors import InputError

app = typer.Typer(help="Who gets a digest, when, and about what.", no_args_is_help=True)

Address = Annotated[str, typer.Argument(help="The e-mail address.")]


@app.command()
def add(
    address: Address,
    *,
    name: Annotated[str, typer.Option(help="The person's name.")] = "",
    timezone: Annotated[str, typer.Option(help="IANA zone, e.g. Europe/Berlin.")] = "",
    hour: Annotated[str, typer.Option(metavar="0-23", help="The local hour.")] = "",
    frequency: Annotated[
        str, typer.Option(help="daily, weekdays, weekly, or e.g. 'weekly friday'.")
    ] = "",
    max_papers: Annotated[str, typer.Option(metavar="1-50", help="The most papers.")] = "",
    topic: Annotated[list[str] | None, typer.Option(help="A topic to follow; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add somebody; what is not given is as the settings say."""
    from digest.importing import Reader, Row
    from digest.storage import subscribers
    from digest.storage.database import reading, writing
    from digest.storage.subscribers import Answer

    found = services(quiet=True)
    row = Row(
        email=address,
        name=name,
        timezone=timezone,
        hour=hour,
        frequency=frequency,
        max_papers=max_papers,
        topics=";".join(topic or []),
    )
    newcomer = Reader(found).make(row)
    with writing(found.engine) as connection:
        [answer] = subscribers.add_many(connection, [newcomer], now=found.clock())
    if answer is Answer.BARRED:
        raise InputError(
            f"{address} is not to be written to: they left, or mail to them failed for good."
            " Only they can come back, by subscribing themselves."
        )
    if answer is Answer.THERE:
        raise InputError(f"{address} is there already. See: digest subscriber list")
    with reading(found.engine) as connection:
        stored = subscribers.find(connection, newcomer.key)
    if as_json:
        show_json(stored)
    else:
        say(f"Added {address}. Their next digest: digest preview {address}")


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List everybody."""
    from digest.cadence import spell_frequency
    from digest.storage import subscribers
    from digest.storage.database import reading

    with reading(services(quiet=True).engine) as connection:
        people = list(subscribers.everyone(connection))
    if as_json:
        show_json(people)
        return
    if not people:
        say("There is nobody yet. See: digest subscriber add --help")
        return
    show_table(
        ("Address", "Name", "Zone", "Hour", "Frequency", "Papers", "Status", "Topics"),
        [
            (
                one.address,
                one.name,
                one.zone,
                one.hour,
                spell_frequency(one.frequency, one.weekday),
                one.max_papers,
                one.status,
                ", ".join(one.topics),
            )
            for one in people
        ],
        right=("Hour", "Papers"),
    )


@app.command()
def remove(address: Address) -> None:
    """Stop writing to somebody, for good."""
    from digest.storage import subscribers
    from digest.storage.database import writing
    from digest.suppression import address_key

    found = services(quiet=True)
    with writing(found.engine) as connection:
        subscriber = subscribers.find(connection, address_key(address))
        if subscriber is None:
            raise InputError(f"{address} is no subscriber. See: digest subscriber list")
        changed = subscribers.unsubscribe(
            connection, subscriber.id, now=found.clock(), detail="by an admin"
        )
    say(f"{address} gets no more mail." if changed else f"{address} got no mail already.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A CSV file in UTF-8; - for standard input.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Add everybody in a CSV file: email,name,timezone,hour,frequency,max_papers,topics.

    Topics are separated by semicolons. Who is there stays as they are; who left is left alone.
    """
    from digest.importing import import_csv

    outcome = import_csv(services(quiet=True), file)
    if as_json:
        show_json(outcome)
    else:
        for bad in outcome.bad:
            say(f"Line {bad.line}: {bad.reason}")
        say(
            f"Added {outcome.added}; there already {outcome.there}; left alone because they left"
            f" {outcome.barred}; bad lines {outcome.bad_lines}."
        )
    if outcome.bad_lines:
        fail(f"{outcome.bad_lines} lines were not taken; see above.", code=1)


@app.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="Where to write; else print.")] = None,
) -> None:
    """Write everybody who gets mail as a CSV file that `import` reads."""
    from digest.importing import export_csv

    count = export_csv(services(quiet=True), file)
    if file is not None:
        say(f"Wrote {count} subscribers to {file}")
