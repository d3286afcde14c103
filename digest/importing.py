"""Subscribers from and to CSV files, a row at a time, whatever the size."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TextIO

from digest.cadence import check_zone, parse_frequency, spell_frequency
from digest.errors import DigestError, InputError
from digest.models import Newcomer, Status, Subscriber, Wishes
from digest.services import Services
from digest.storage import subscribers, topics
from digest.storage.database import reading, writing
from digest.storage.subscribers import Answer

BATCH = 500
SHOWN = 1000  # bad lines that are kept with their reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A subscriber as a file has them; an empty field is as the settings say."""

    email: str
    name: str = ""
    timezone: str = ""
    hour: str = ""
    frequency: str = ""
    max_papers: str = ""
    topics: str = ""  # separated by semicolons


COLUMNS = tuple(field.name for field in fields(Row))


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a file's lines; `bad` has the first thousand of the bad ones."""

    added: int
    there: int
    barred: int
    bad_lines: int
    bad: tuple[BadLine, ...]


class Reader:
    """Makes newcomers of rows: defaults from the settings, topics that exist, checked values."""

    def __init__(self, services: Services) -> None:
        self._services = services
        with reading(services.engine) as connection:
            self._topics = {topic.slug for topic in topics.all_topics(connection)}
        self._zones: dict[str, str] = {}

    def make(self, row: Row) -> Newcomer:
        """A newcomer; DigestError says which field is wrong and why."""
        settings = self._services.settings
        frequency, weekday = parse_frequency(
            row.frequency.strip() or settings.frequency, weekday=settings.weekday
        )
        wishes = Wishes(
            name=" ".join(row.name.split()),
            zone=self._zone(row.timezone.strip() or settings.zone),
            hour=_number("hour", row.hour, 0, 23, default=settings.hour),
            frequency=frequency,
            weekday=weekday,
            max_papers=_number("max_papers", row.max_papers, 1, 50, default=settings.max_papers),
            locale=settings.locale,
        )
        wanted = [slug.strip() for slug in row.topics.split(";") if slug.strip()]
        unknown = [slug for slug in wanted if slug not in self._topics]
        if unknown:
            known = ", ".join(sorted(self._topics)) or "none yet"
            raise InputError(f"there is no topic {unknown[0]}; topics: {known}")
        return self._services.newcomer(row.email.strip(), wishes, wanted)

    def _zone(self, name: str) -> str:
        if name not in self._zones:
            self._zones[name] = check_zone(name)
        return self._zones[name]


def _number(name: str, text: str, least: int, most: int, *, default: int) -> int:
    if not text.strip():
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise InputError(f"{name} {text!r} is no number from {least} to {most}")
    return value


def import_csv(services: Services, path: Path) -> Imported:
    """Add everybody in a file with the header of COLUMNS; `-` is standard input.

    Rows are read, checked and stored in batches. A bad one is reported with its line and stops
    nothing. Nobody who is there already, or who left, is changed.
    """
    counts = dict.fromkeys(Answer, 0)
    bad: list[BadLine] = []
    bad_lines = 0
    reader = Reader(services)
    batch: list[Newcomer] = []

    def flush() -> None:
        with writing(services.engine) as connection:
            for answer in subscribers.add_many(connection, batch, now=services.clock()):
                counts[answer] += 1
        batch.clear()

    with _opened(path) as (file, progress):
        for line, row in _rows(file, path):
            try:
                batch.append(reader.make(row))
            except DigestError as error:
                bad_lines += 1
                if len(bad) < SHOWN:
                    bad.append(BadLine(line=line, reason=f"{row.email}: {error}"))
            if len(batch) >= BATCH:
                flush()
                progress(file)
        if batch:
            flush()
    return Imported(
        added=counts[Answer.ADDED],
        there=counts[Answer.THERE],
        barred=counts[Answer.BARRED],
        bad_lines=bad_lines,
        bad=tuple(bad),
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[TextIO, Callable[[TextIO], None]]]:
    """The file, and what moves a bar on a terminal along with it."""
    if str(path) == "-":
        yield sys.stdin, lambda _file: None
        return
    from rich.progress import BarColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    try:
        # utf-8-sig: spreadsheets put a byte order mark before the header.
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    columns = ("{task.percentage:>3.0f} %", BarColumn(), TimeRemainingColumn())
    with file, Progress(*columns, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("import", total=path.stat().st_size)
        yield file, lambda open_: bar.update(task, completed=open_.buffer.tell())


def _rows(file: TextIO, path: Path) -> Iterator[tuple[int, Row]]:
    """The line and fields of each row; InputError for what is no such file at all."""
    reader = csv.DictReader(file, restkey="more", strict=True)
    try:
        header = [name.strip().lower() for name in reader.fieldnames or ()]
        unknown = [name for name in header if name not in COLUMNS]
        if "email" not in header or unknown:
            wrong = f"{unknown[0]!r} is no column" if unknown else "there is no column email"
            raise InputError(f"{path}: {wrong}. The first line must be: {','.join(COLUMNS)}")
        reader.fieldnames = header
        for fields_ in reader:
            line = reader.line_num
            if "more" in fields_:
                fields_.pop("more")
            yield line, Row(**{name: value or "" for name, value in fields_.items()})
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8. Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None


def export_csv(services: Services, path: Path | None) -> int:
    """Write everybody who gets mail, to a file or standard output; how many."""
    with ExitStack() as stack:
        file: TextIO = sys.stdout
        if path is not None:
            try:
                file = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
            except OSError as error:
                raise InputError(f"{path} cannot be written: {error.strerror}") from None
        connection = stack.enter_context(reading(services.engine))
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        count = 0
        for one in subscribers.everyone(connection):
            if one.status is Status.ACTIVE:
                writer.writerow(_fields(one))
                count += 1
    return count


def _fields(one: Subscriber) -> tuple[str, ...]:
    return (
        one.address,
        _inert(one.name),
        one.zone,
        str(one.hour),
        spell_frequency(one.frequency, one.weekday),
        str(one.max_papers),
        ";".join(one.topics),
    )


def _inert(text: str) -> str:
    """A cell that no spreadsheet takes for a formula (OWASP: CSV injection)."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
