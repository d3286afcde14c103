"""`digest subscriber`: who gets a digest, when, about what."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digest.cli.output import count, fail, say, show_json, show_json_list, show_table
from digest.cli.setup import AsJson, services
from digest.errors import InputError

if TYPE_CHECKING:
    from digest.importing import Imported
    from digest.models import Subscriber
    from digest.services import Services

app = typer.Typer(help="Who gets a digest, when, and about what.", no_args_is_help=True)

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The mail address.")]
Name = Annotated[str, typer.Option(help="The person's name.")]
Zone = Annotated[str, typer.Option(help="IANA zone, e.g. Europe/Berlin.")]
Hour = Annotated[str, typer.Option(metavar="0-23", help="The local hour.")]
Often = Annotated[str, typer.Option(help="daily, weekdays, weekly, or e.g. 'weekly friday'.")]
Most = Annotated[str, typer.Option(metavar="1-50", help="The most papers.")]
Topics = Annotated[list[str] | None, typer.Option(help="A topic to follow; repeatable.")]


@app.command()
def add(
    address: Address,
    *,
    name: Name = "",
    timezone: Zone = "",
    hour: Hour = "",
    frequency: Often = "",
    max_papers: Most = "",
    topic: Topics = None,
    as_json: AsJson = False,
) -> None:
    """Add somebody; what is not given is as the settings say."""
    from digest.importing import Reader, Row
    from digest.storage import subscribers
    from digest.storage.database import reading, writing
    from digest.storage.subscribers import Answer

    found = services()
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
    if answer is Answer.ASKED:
        raise InputError(
            f"{address} was asked whether they want the digest, and has not confirmed: only they"
            " can, by the link in their mail. Was it lost, or is it older than a week? They can"
            f" ask for another one: {found.site.base_url}/subscribe"
        )
    if answer is Answer.THERE:
        raise InputError(f"{address} is there already. See: digest subscriber list")
    with reading(found.engine) as connection:
        stored = subscribers.find(connection, newcomer.key)
    if as_json:
        show_json(stored)
    else:
        say(f"Added {address}. Their next digest: digest preview {address}")


@app.command()
def show(address: Address, *, as_json: AsJson = False) -> None:
    """Show somebody's settings, and what became of their last digests."""
    from digest.cadence import spell_frequency
    from digest.storage import digests
    from digest.storage.database import reading

    found = services()
    person = _find(found, address)
    with reading(found.engine) as connection:
        slots = digests.slots_of(connection, person.id, limit=30)
    if as_json:
        show_json({"subscriber": person, "slots": slots})
        return
    when = spell_frequency(person.frequency, person.weekday)
    say(f"{person.address} ({person.status}), subscriber {person.id}")
    say(f"  {when} at {person.hour}:00, {person.zone}, at most {count(person.max_papers, 'paper')}")
    say(f"  topics: {', '.join(person.topics) or 'none, so whatever is popular'}")
    if slots:
        show_table(
            ("Date", "Due", "State", "Why"),
            [
                (slot.date, f"{slot.due_at:%Y-%m-%d %H:%M}Z", slot.state, slot.reason)
                for slot in slots
            ],
        )
    else:
        say("No digest was due yet.")


@app.command()
def change(
    address: Address,
    *,
    name: Name = "",
    timezone: Zone = "",
    hour: Hour = "",
    frequency: Often = "",
    max_papers: Most = "",
    topic: Topics = None,
    as_json: AsJson = False,
) -> None:
    """Change somebody's settings; what is not given stays, and so does what is planned already."""
    from dataclasses import replace

    from digest.cadence import spell_frequency
    from digest.importing import Reader, Row
    from digest.storage import subscribers
    from digest.storage.database import writing

    found = services()
    person = _find(found, address)
    row = Row(
        email=address,
        name=name or person.name,
        timezone=timezone or person.zone,
        hour=hour or str(person.hour),
        frequency=frequency or spell_frequency(person.frequency, person.weekday),
        max_papers=max_papers or str(person.max_papers),
        topics=";".join(person.topics if topic is None else topic),
    )
    wanted = Reader(found).make(row)
    wishes = replace(wanted.wishes, locale=person.locale)
    with writing(found.engine) as connection:
        subscribers.change(connection, person.id, wishes, now=found.clock())
        subscribers.follow(connection, {person.id: wanted.topics})
    if as_json:
        show_json(_find(found, address))
        return
    say(f"Changed. See: digest subscriber show {address}")


def _find(found: Services, address: str) -> Subscriber:
    from digest.storage import subscribers
    from digest.storage.database import reading
    from digest.suppression import address_key

    with reading(found.engine) as connection:
        person = subscribers.find(connection, address_key(address))
    if person is None:
        raise InputError(f"{address} is no subscriber. See: digest subscriber list")
    return person


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 100,
    *,
    as_json: AsJson = False,
) -> None:
    """List who is subscribed, and who was; --json has all that is known of them."""
    from digest.cadence import spell_frequency
    from digest.models import Status
    from digest.storage import subscribers
    from digest.storage.database import reading

    with reading(services().engine) as connection:
        everyone = subscribers.everyone(connection)
        if as_json:
            show_json_list(everyone)
            return
        people = list(islice(everyone, limit + 1))
    if not people:
        say("There is nobody yet. See: digest subscriber add --help")
        return
    show_table(
        ("Address", "Digest", "Topics"),
        [
            (
                one.address,
                f"{spell_frequency(one.frequency, one.weekday)} {one.hour:02}h {one.zone}"
                if one.status is Status.ACTIVE
                else one.status,
                ", ".join(one.topics),
            )
            for one in people[:limit]
        ],
    )
    if len(people) > limit:
        say(f"These are the first {limit:,}. All: digest subscriber export")


@app.command()
def remove(address: Address, *, as_json: AsJson = False) -> None:
    """Stop writing to somebody, for good."""
    found = services()
    changed = found.stop_writing(_find(found, address).id, detail="by an admin")
    if as_json:
        show_json({"address": address, "changed": changed})
        return
    say(f"{address} gets no more mail." if changed else f"{address} got no mail already.")


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A CSV file in UTF-8; - for standard input.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Add everybody in a CSV file.

    Its first line: email,name,timezone,hour,frequency,max_papers,topics. Only email is needed;
    topics are separated by semicolons. Who is there stays as they are; who left is left alone.
    """
    from digest.importing import import_csv

    outcome = import_csv(services(), file)
    if as_json:
        show_json(outcome)
    else:
        _show_imported(outcome)
    if outcome.bad_lines:
        fail(f"{count(outcome.bad_lines, 'line')} could not be taken.", code=1)


def _show_imported(outcome: Imported) -> None:
    for bad in outcome.bad:
        say(f"Line {bad.line:,}: {bad.reason}")
    if len(outcome.bad) < outcome.bad_lines:
        say(f"... and {count(outcome.bad_lines - len(outcome.bad), 'more bad line')}.")
    say(f"Added {count(outcome.added, 'subscriber')}.")
    if outcome.there:
        say(f"There already, and left as they are: {outcome.there:,}.")
    if outcome.asked:
        say(f"Asked already, and to come in by the link in their mail alone: {outcome.asked:,}.")
    if outcome.barred:
        say(f"Left alone, because they left or mail to them failed for good: {outcome.barred:,}.")


@app.command()
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to write; else print.")
    ] = None,
) -> None:
    """Write everybody who gets mail as a CSV file that `import` reads."""
    from digest.importing import export_csv

    written = export_csv(services(), file)
    if file is not None:
        say(f"Wrote {count(written, 'subscriber')} to {file}")
