"""How commands speak: tables for people, JSON for programs, one sentence for a mistake."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, NoReturn

WIDE = 1000  # columns, where no terminal sets a limit: a line read by `grep` is not folded


def fail(message: str, *, code: int = 2) -> NoReturn:
    """Say what was wrong on standard error and exit."""
    sys.stderr.write(f"{message}\n")
    sys.exit(code)


def say(text: str = "") -> None:
    """One line for a person."""
    sys.stdout.write(f"{text}\n")


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 digest`, `1,200 digests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that something takes its time, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(f"{what} ..."):
        yield


def show_json(value: Any, *, indent: int | None = 2) -> None:
    """The value as JSON in ASCII, whatever the terminal's encoding; datetimes in ISO 8601."""
    say(json.dumps(_plain(value), indent=indent))


def show_json_list(values: Iterable[Any]) -> None:
    """A list as JSON, an item at a time, whatever its length."""
    comma = "["
    for value in values:
        sys.stdout.write(f"{comma}\n{json.dumps(_plain(value))}")
        comma = ","
    say("[]" if comma == "[" else "\n]")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()  # a value that is a tuple for speed keeps its names here
    if isinstance(value, Mapping):
        return {_name(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value


def _name(key: Any) -> str:
    return ": ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def show_table(
    headings: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()
) -> None:
    """A table that fits the terminal; headings in `right` are columns of numbers.

    Where there is no room for all, the first column is the last to be folded.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [tuple(map(_cell, row)) for row in rows]
    first = max((len(row[0]) for row in cells), default=0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            overflow="fold",
            min_width=max(len(heading), min(first, 40) if number == 0 else 0),
        )
    for row in cells:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _cell(value: Any) -> str:
    return f"{value:,}" if type(value) is int else str(value)
