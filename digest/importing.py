"""Subscribers from and to CSV files, a row at a time, whatever the size."""

from __future__ import annotations

import csv
import io
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO, TextIO

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
    asked: int  # on a page, and yet to confirm
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
            name=one_line(row.name, "name", most=200),
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
            raise InputError(f"There is no topic {unknown[0]}. Topics: {known}.")
        return self._services.newcomer(row.email.strip(), wishes, wanted)

    def _zone(self, name: str) -> str:
        if name not in self._zones:
            self._zones[name] = check_zone(name)
        return self._zones[name]


def one_line(text: str, what: str, *, most: int) -> str:
    """Text with its white space folded; InputError for control characters and what is too long."""
    folded = " ".join(text.split())
    if not _is_text(folded):
        raise InputError(f"The {what} {folded!r} holds characters that are no text.")
    if len(folded) > most:
        raise InputError(f"The {what} has {len(folded):,} characters; write {most} at most.")
    return folded


def _number(name: str, text: str, least: int, most: int, *, default: int) -> int:
    written = text.strip()
    if not written:
        return default
    if not re.fullmatch("[0-9]{1,3}", written) or not least <= int(written) <= most:
        raise InputError(f"{name} {written[:40]!r} is no number from {least} to {most}.")
    return int(written)


def import_csv(services: Services, path: Path) -> Imported:
    """Add everybody in a file with the header of COLUMNS; `-` is standard input.

    Rows are read, checked and stored in batches. A bad one is reported with its line and stops
    nothing. Nobody who is there already, or who left, is changed. InputError for what is no such
    file at all.
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
            made = _newcomer_or_why_not(reader, row)
            if isinstance(made, Newcomer):
                batch.append(made)
            else:
                bad_lines += 1
                if len(bad) < SHOWN:
                    bad.append(BadLine(line=line, reason=made))
            if len(batch) >= BATCH:
                flush()
                progress()
        if batch:
            flush()
    return Imported(
        added=counts[Answer.ADDED],
        there=counts[Answer.THERE],
        asked=counts[Answer.ASKED],
        barred=counts[Answer.BARRED],
        bad_lines=bad_lines,
        bad=tuple(bad),
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[TextIO, Callable[[], None]]]:
    """The text of a file, and what moves a bar on a terminal along with its reading."""
    if str(path) == "-":
        yield _decoded(sys.stdin.buffer), lambda: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    console = Console(stderr=True)
    columns = ("{task.percentage:>3.0f} %", BarColumn(), TimeRemainingColumn())
    # A pipe has no size to measure the way by.
    shown = console.is_terminal and path.is_file()
    with file, Progress(*columns, console=console, disable=not shown, transient=True) as bar:
        task = bar.add_task("import", total=path.stat().st_size)
        yield (
            _decoded(file),
            lambda: bar.update(task, completed=file.tell()) if shown else None,
        )


def _decoded(file: BinaryIO) -> TextIO:
    # utf-8-sig: spreadsheets put a byte order mark before the header. What is no UTF-8 passes as
    # surrogates, so that it spoils its own row only.
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _rows(file: TextIO, path: Path) -> Iterator[tuple[int, Row | str]]:
    """Each row with the line where it begins, or what is wrong with it."""
    reader = csv.reader(file, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if header is None:
                raise InputError(f"{path}: the first line cannot be read ({error}).") from None
            until = f" up to line {reader.line_num:,}" if reader.line_num > line else ""
            yield line, f"This cannot be read{until} ({error}). Is there a quote too many?"
            continue
        if not cells:
            continue
        if header is None:
            header = _header(cells, path)
        elif len(cells) > len(header):
            yield line, f"There are {len(cells)} fields, the first line names {len(header)}."
        elif any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
            yield line, "This is not UTF-8. Save the file as CSV in UTF-8."
        else:
            yield line, Row(**dict(zip(header, map(_live, cells), strict=False)))
    if header is None:
        raise InputError(f"{path} is empty. {_WANTED}")


_WANTED = f"Its first line must be: {','.join(COLUMNS)}"


def _header(cells: list[str], path: Path) -> list[str]:
    header = [name.strip().lower() for name in cells]
    if ";" in header[0] or "\t" in header[0]:
        raise InputError(f"{path}: separate the columns by commas. {_WANTED}")
    if not _is_text("".join(header)):
        raise InputError(f"{path} is not UTF-8. Save it as CSV in UTF-8.")
    for name in header:
        if name not in COLUMNS:
            raise InputError(f"{path}: {name[:60]!r} is no column. {_WANTED}")
        if header.count(name) > 1:
            raise InputError(f"{path}: the column {name} is there twice. {_WANTED}")
    if "email" not in header:
        raise InputError(f"{path}: there is no column email. {_WANTED}")
    return header


def _is_text(text: str) -> bool:
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)


def _newcomer_or_why_not(reader: Reader, row: Row | str) -> Newcomer | str:
    if isinstance(row, str):
        return row
    try:
        return reader.make(row)
    except DigestError as error:
        return f"{row.email.strip()[:80] or 'no address'}: {error}"


def export_csv(services: Services, path: Path | None) -> int:
    """Write everybody who gets mail, to a file or standard output; how many."""
    with ExitStack() as stack:
        file: TextIO = sys.stdout
        if path is not None:
            try:
                file = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
            except OSError as error:
                raise InputError(f"{path} cannot be written: {error.strerror}.") from None
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
        _inert(one.address),
        _inert(one.name),
        one.zone,
        str(one.hour),
        spell_frequency(one.frequency, one.weekday),
        str(one.max_papers),
        ";".join(one.topics),
    )


# A cell that begins so is a formula to a spreadsheet (OWASP: CSV injection), and one with an
# apostrophe before it is text. Export puts that apostrophe and import takes it away; whoever has
# one in such a place keeps it, for they get a second.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def _inert(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _live(text: str) -> str:
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
