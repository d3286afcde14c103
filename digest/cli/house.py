"""Commands that show the state of the house and set it up."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from digest.cli.bench import bench
from digest.cli.output import fail, say, show_json, show_table
from digest.cli.setup import AsJson, Now, services
from digest.cli.stages import collect, deliver, plan, run
from digest.cli.status import status
from digest.errors import InputError
from digest.pipeline.ending import Asked

if TYPE_CHECKING:
    from digest.settings import Row, Settings

NOTHING = {  # why a digest has no papers, in words
    "sources": "no source could be read. See: digest status",
    "quiet": "no paper that is new to them scores DIGEST_MIN_SCORE or more",
    "weekend": "nothing is announced on weekends",
    "holiday": "nothing was announced",
    "error": "it could not be made, the log says why",
}


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
        bench,
        demo,
    ):
        app.command()(command)


def preview(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="A subscriber's address.")],
    *,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the HTML there.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Print the text body.")] = False,
    now: Now = "",
    as_json: AsJson = False,
) -> None:
    """Show somebody's next digest without sending or storing anything."""
    from digest.models import Status
    from digest.pipeline.planning import preview as draft
    from digest.rendering import compose
    from digest.storage import subscribers
    from digest.storage.database import reading
    from digest.suppression import address_key

    found = services(now)
    with reading(found.engine) as connection:
        subscriber = subscribers.find(connection, address_key(address))
    if subscriber is None:
        raise InputError(f"{address} is no subscriber. See: digest subscriber list")
    if subscriber.status is not Status.ACTIVE:
        raise InputError(f"{address} gets no mail: {subscriber.status}.")
    made = draft(found.engine, found.plan, subscriber.id, now=found.clock())
    if as_json:
        show_json({"slot": made.slot.date, "due_at": made.slot.due_at, "choice": made.choice})
        return
    if made.skeleton is None or made.personal is None:
        reason = made.choice.reason
        say(f"Nothing to send for {made.slot.date}: {NOTHING.get(reason, reason)}.")
        return
    cards = [(c, item.card) for c, item in zip(made.cards, made.choice.items, strict=True)]
    page, plain = compose(made.skeleton, cards, made.personal)
    if html is not None:
        try:
            html.write_text(page, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{html} cannot be written: {error.strerror}") from None
        say(f"Written to {html}")
    if text or html is None:
        say(plain)


def serve() -> None:
    """Serve the pages alone; the scheduler does so too."""
    from digest.web.build import build as web
    from digest.web.server import WebServer, listen

    found = services(stays=True)
    settings = found.settings
    ended, asked = threading.Event(), Asked()

    def end(_number: int, _frame: FrameType | None) -> None:
        if not asked.anew():
            return
        if ended.is_set():  # a page that waits for a database that hangs would hold it up
            os._exit(1)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    listener = listen(settings.web_host, settings.web_port)
    with WebServer(web(found), listener):
        say(f"Serving on {settings.base_url} (Ctrl-C ends it)")
        sys.stdout.flush()
        ended.wait()


def migrate(*, as_json: AsJson = False) -> None:
    """Bring the database's tables to this version."""
    from digest.settings import load
    from digest.storage.database import open_database
    from digest.storage.migrating import upgrade

    before, after = upgrade(open_database(load(os.environ, Path(".env")).database_url))
    if as_json:
        show_json({"before": before, "after": after})
    elif before == after:
        say(f"The database is at revision {after} already.")
    else:
        say(f"The database went from {before or 'empty'} to revision {after}.")


def config(*, as_json: AsJson = False) -> None:
    """Print all settings, secrets masked, and where each came from."""
    from digest.settings import describe, load

    settings = load(os.environ, Path(".env"))
    rows = [_with_key(row, settings) for row in describe(settings)]
    if as_json:
        show_json(rows)
    else:
        show_table(
            ("Setting", "Value", "From"), [(row.name, row.value, row.origin) for row in rows]
        )
        if settings.local:
            say(f"No mail leaves this machine: it is at {settings.base_url}/inbox/")


def _with_key(row: Row, settings: Settings) -> Row:
    """The key's row says where the key comes from when it is no setting; SettingsError."""
    from dataclasses import replace

    from digest.settings import KEY_FILE, secret_keys

    path = settings.data_dir / KEY_FILE
    if row.name != "DIGEST_SECRET_KEY" or settings.secret_key:
        return row
    if not path.exists() and settings.local_base:
        return replace(row, value="made at the first start", origin=str(path))
    secret_keys(settings)
    return replace(row, value="******", origin=str(path))


def send_test(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where to.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Send one test mail now over each mail server, to see whether it takes it."""
    from digest.errors import DeliveryError
    from digest.pipeline.testing import send_test as send
    from digest.suppression import address_key

    address_key(address)  # says what is wrong with it
    found = services()
    receipts = []
    try:
        with found.relays() as relays:
            for relay in relays:
                receipt = send(
                    relay.server,
                    address,
                    site=found.site,
                    locale=found.settings.locale,
                    now=found.clock(),
                )
                receipts.append(receipt)
    except DeliveryError as error:
        fail(
            f"{relay.name} did not take it: {error}\nWhat is set: digest config",
            code=1,
        )
    if as_json:
        show_json(receipts)
        return
    for receipt in receipts:
        say(f"{receipt.relay} took it: {receipt.code} {receipt.text}")
    if found.settings.local:
        say(f"It is in the local inbox: {found.settings.base_url}/inbox/")


def demo(
    *, once: Annotated[bool, typer.Option("--once", help="End after the run.")] = False
) -> None:
    """Run the main job once with sample subscribers and a local inbox, and show the result."""
    from digest.cli.demo import run_demo

    raise typer.Exit(run_demo(serve=not once))
