"""What most commands begin with: settings, services, and the time that they act at."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digest.errors import InputError

if TYPE_CHECKING:
    from digest.services import Services

Now = Annotated[
    str,
    typer.Option(
        "--now",
        metavar="ISO-TIME",
        help="Act as if it were this time, e.g. 2026-05-28T06:00Z: slots, windows, dates, retries.",
    ),
]
Really = Annotated[
    bool, typer.Option("--really", help="With --now: send over a mail server that is elsewhere.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def services(now: str = "", *, stays: bool = False) -> Services:
    """The services for this command, at the time that it was told; `stays`: it is a service."""
    from digest.logs import configure
    from digest.services import build
    from digest.settings import load

    settings = load(os.environ, Path(".env"))
    # What a service logs at the usual level, a command prints.
    quiet = settings.log_level == "info" and not stays
    configure("error" if quiet else settings.log_level, settings.log_format)
    if not now:
        return build(settings)
    instant = parse_time(now)
    return build(settings, clock=lambda: instant)


def acting(now: str, *, really: bool) -> Services:
    """Services for a command that changes things; refuses a moved clock with a far mail server."""
    from digest.configured import relays_of
    from digest.settings.checks import local

    found = services(now)
    relays = [] if found.settings.local else relays_of(found.settings)
    far = [relay.name for relay in relays if not local(relay.server.host)]
    if now and not really and far:
        raise InputError(
            f"--now would send mail over {', '.join(far)} as if it were another time."
            " Add --really if that is what you want."
        )
    return found


def parse_time(text: str, *, option: str = "--now") -> datetime:
    """An ISO 8601 time with its offset; InputError."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option}: {text!r} is no time. Write it as 2026-05-28T06:00Z.") from None
    if instant.tzinfo is None:
        raise InputError(f"{option}: {text!r} says no zone. Add Z for UTC, or an offset as +02:00.")
    if not 1990 < instant.year < 2200:  # windows and zones reach some years to both sides
        raise InputError(f"{option}: {text!r} is too far away. Write a year from 1991 to 2199.")
    return instant.astimezone(UTC)
