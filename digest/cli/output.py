"""How commands speak: tables for people, JSON for programs, one sentence for a mistake."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NoReturn


def fail(message: str, *, code: int = 2) -> NoReturn:
    """Say what was wrong on standard error and exit."""
    sys.stderr.write(f"{message}\n")
    sys.exit(code)


def say(text: str = "") -> None:
    """One line for a person."""
    sys.stdout.write(f"{text}\n")


def show_json(value: Any) -> None:
    """The value as JSON, datetimes in ISO 8601."""
    say(json.dumps(_plain(value), ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
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
    """A table that fits the terminal; headings in `right` are columns of numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)
