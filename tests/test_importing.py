"""Subscribers from and to CSV files: what a spreadsheet, an editor or a person may have done."""

from __future__ import annotations

import csv
import io
import os
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.errors import InputError
from digest.importing import COLUMNS, SHOWN, _inert, _live, export_csv, import_csv, one_line
from digest.models import Frequency, Subscriber, Wishes
from digest.services import Services, build
from digest.settings import Settings
from digest.storage import subscribers, topics
from digest.storage.database import reading, writing

NOW = datetime(2026, 5, 28, 6, tzinfo=UTC)


@pytest.fixture
def services(tmp_path: Path, database_url: str) -> Iterator[Services]:
    """A house with two topics, and somebody who left."""
    settings = Settings(
        data_dir=tmp_path / "data", database_url=database_url, allow_unsafe_database=True
    )
    found = build(settings, clock=lambda: NOW)
    with writing(found.engine) as connection:
        for slug in ("agents", "vision"):
            topics.add(connection, slug.title(), slug, slug=slug, now=NOW)
        wishes = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=12)
        subscribers.add_many(connection, [found.newcomer("gone@example.org", wishes)], now=NOW)
        [gone] = subscribers.everyone(connection)
        subscribers.unsubscribe(connection, gone.id, now=NOW, detail="by a test")
    yield found
    found.engine.dispose()


def people(services: Services) -> dict[str, Subscriber]:
    with reading(services.engine) as connection:
        return {one.address: one for one in subscribers.everyone(connection)}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, and what becomes of it."""

    content: bytes
    added: tuple[str, ...] = ()
    there: int = 0
    barred: int = 0
    bad: tuple[tuple[int, str], ...] = ()  # line, a part of the reason


CASES = {
    "all fields": Case(
        content=b"email,name,timezone,hour,frequency,max_papers,topics\n"
        b"ada@example.org,Ada,Asia/Kolkata,07,weekly friday,5,agents; vision\n",
        added=("ada@example.org",),
    ),
    "only addresses": Case(content=b"email\nada@example.org\n", added=("ada@example.org",)),
    "no line end": Case(content=b"email\nada@example.org", added=("ada@example.org",)),
    "byte order mark": Case(
        content=b"\xef\xbb\xbfemail,name\nada@example.org,Ada\n", added=("ada@example.org",)
    ),
    "line ends of Windows": Case(
        content=b"email,name\r\nada@example.org,Ada\r\n", added=("ada@example.org",)
    ),
    "blank lines": Case(
        content=b"\n\nemail,name\n\nada@example.org,Ada\n\n", added=("ada@example.org",)
    ),
    "header in another case and order": Case(
        content=b" Name ,EMAIL\nAda, ada@example.org \n", added=("ada@example.org",)
    ),
    "an empty list": Case(content=b"email\n"),
    "fewer fields": Case(
        content=b"email,name,timezone\nada@example.org\n", added=("ada@example.org",)
    ),
    "more fields": Case(
        content=b"email,name\nada@example.org,Lovelace, Ada\nbob@example.org,Bob\n",
        added=("bob@example.org",),
        bad=((2, "There are 3 fields, the first line names 2."),),
    ),
    "the same person thrice": Case(
        content=b"email\nada@example.org\nAda@Example.ORG\nada@example.org\n",
        added=("ada@example.org",),
        there=2,
    ),
    "somebody who left": Case(
        content=b"email\nGone@Example.org\nada@example.org\n", added=("ada@example.org",), barred=1
    ),
    "another encoding spoils its rows only": Case(
        content=b"email,name\nada@example.org,J\xf6rg\nbob@example.org,Bob\n",
        added=("bob@example.org",),
        bad=((2, "not UTF-8"),),
    ),
    "a field with a line end": Case(
        content=b'email,name\nada@example.org,"Ada\nLovelace"\nnobody\n',
        added=("ada@example.org",),
        bad=((4, "nobody: "),),
    ),
    "a quote that is not closed": Case(
        content=b'email,name\nada@example.org,Ada\nbob@example.org,"Bob\ncy@example.org,Cy\n',
        added=("ada@example.org",),
        bad=((3, "up to line 4"),),
    ),
    "a quote in the middle": Case(
        content=b'email,name\nada@example.org,"Ada"x\nbob@example.org,Bob\n',
        added=("bob@example.org",),
        bad=((2, "quote"),),
    ),
    "a huge field": Case(
        content=b"email,name\nada@example.org," + b"a" * 200_000 + b"\nbob@example.org,Bob\n",
        added=("bob@example.org",),
        bad=((2, "field limit"),),
    ),
    "a name with control characters": Case(
        content=b"email,name\nada@example.org,A\x00da\n", bad=((2, "no text"),)
    ),
    "a name without end": Case(
        content=b"email,name\nada@example.org," + b"a" * 201 + b"\n", bad=((2, "200 at most"),)
    ),
    "fields that are wrong": Case(
        content=b"email,timezone,hour,frequency,max_papers,topics\n"
        b"a1@example.org,Europe/Berln,,,,\n"
        b"a2@example.org,,24,,,\n"
        b"a3@example.org,,+5,,,\n"
        b"a4@example.org,,1_0,,,\n"
        b"a5@example.org,,,hourly,,\n"
        b"a6@example.org,,,,51,\n"
        b"a7@example.org,,,,,robots\n"
        b",,,,,\n"
        b"a9@example.org,,,,,\n",
        added=("a9@example.org",),
        bad=(
            (2, "a1@example.org: "),
            (3, "hour '24' is no number from 0 to 23."),
            (4, "hour '+5'"),
            (5, "hour '1_0'"),
            (6, "hourly"),
            (7, "max_papers '51' is no number from 1 to 50."),
            (8, "There is no topic robots. Topics: agents, vision."),
            (9, "no address: "),
        ),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_becomes_of_a_file(case: Case, services: Services, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(case.content)
    outcome = import_csv(services, file)
    assert (outcome.added, outcome.there, outcome.barred) == (
        len(case.added),
        case.there,
        case.barred,
    )
    assert outcome.bad_lines == len(outcome.bad) == len(case.bad)
    for bad, (line, words) in zip(outcome.bad, case.bad, strict=True):
        assert bad.line == line
        assert words in bad.reason
    assert set(people(services)) == {"gone@example.org", *case.added}


NO_SUCH_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n", "is empty"),
    "another header": (b"mail,name\nada@example.org,Ada\n", "'mail' is no column"),
    "no header": (b"ada@example.org\n", "is no column"),
    "no column email": (b"name\nAda\n", "there is no column email"),
    "a column twice": (b"email,email\na@example.org,b@example.org\n", "email is there twice"),
    "semicolons": (b"email;name\nada@example.org;Ada\n", "separate the columns by commas"),
    "tabs": (b"email\tname\nada@example.org\tAda\n", "separate the columns by commas"),
    "UTF-16": ("email,name\n".encode("utf-16"), "is not UTF-8"),
    "no text": (bytes(range(128, 256)), "is not UTF-8"),
    "a quote in the header": (b'"email,name\n', "the first line cannot be read"),
}


@pytest.mark.parametrize(("content", "words"), NO_SUCH_FILES.values(), ids=NO_SUCH_FILES)
def test_no_such_file_at_all(
    content: bytes, words: str, tmp_path: Path, one_house: Services
) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=words):
        import_csv(one_house, file)


@pytest.fixture
def one_house(tmp_path: Path, sqlite_url: str) -> Iterator[Services]:
    found = build(Settings(data_dir=tmp_path / "data", database_url=sqlite_url), clock=lambda: NOW)
    yield found
    found.engine.dispose()


def test_a_file_that_cannot_be_opened(one_house: Services, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.csv cannot be read: No such file"):
        import_csv(one_house, tmp_path / "missing.csv")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        import_csv(one_house, tmp_path)
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        export_csv(one_house, tmp_path)


def test_standard_input_is_utf8_whatever_the_locale(
    one_house: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "\ufeffemail,name\r\nada@example.org,Jörg\r\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="latin-1"))
    assert import_csv(one_house, Path("-")).added == 1
    assert people(one_house)["ada@example.org"].name == "Jörg"


def test_a_pipe_of_more_than_one_batch(one_house: Services, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        pipe.write_text("email\n" + "".join(f"p{n}@example.org\n" for n in range(1_100)))

    writer = threading.Thread(target=write)
    writer.start()
    assert import_csv(one_house, pipe).added == 1_100
    writer.join()


def test_export_then_import_is_the_same(services: Services, tmp_path: Path) -> None:
    written = tmp_path / "in.csv"
    rows = [
        ("=1+2@example.org", '=HYPERLINK("x")', "UTC", "0", "daily", "1", "agents;vision"),
        ("'=1@example.org", "'=1", "UTC", "1", "daily", "1", "agents"),
        ("plain@example.org", "'t Hooft, Gerard", "UTC", "2", "daily", "1", "vision"),
        ("minus@example.org", "-", "Europe/Berlin", "23", "weekly sunday", "50", ""),
        ("at@example.org", "@ada", "Pacific/Auckland", "8", "weekdays", "12", ""),
        ("quote@example.org", '"Ada", she said', "UTC", "8", "daily", "12", ""),
    ]
    with writing(services.engine) as connection:
        reader = [
            services.newcomer(
                address,
                Wishes(
                    name=name,
                    zone=zone,
                    hour=int(hour),
                    frequency=Frequency(frequency.split()[0]),
                    weekday=6 if "sunday" in frequency else None,
                    max_papers=int(most),
                ),
                [slug for slug in slugs.split(";") if slug],
            )
            for address, name, zone, hour, frequency, most, slugs in rows
        ]
        subscribers.add_many(connection, reader, now=NOW)
    assert export_csv(services, written) == len(rows)
    with written.open(newline="", encoding="utf-8") as file:
        header, *cells = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert not [cell for row in cells for cell in row if cell[:1] in ("=", "+", "-", "@")]

    other = build(
        Settings(data_dir=tmp_path / "other"),
        clock=lambda: NOW,
    )
    with writing(other.engine) as connection:
        for slug in ("agents", "vision"):
            topics.add(connection, slug.title(), slug, slug=slug, now=NOW)
    assert import_csv(other, written).added == len(rows)
    again = tmp_path / "again.csv"
    export_csv(other, again)
    other.engine.dispose()
    assert again.read_bytes() == written.read_bytes()
    found = [(one.address, one.name) for one in people(services).values()]
    assert found[1:] == [(address, name) for address, name, *_ in rows]


@given(st.text(st.sampled_from("'=+-@\t\rab")))
def test_a_cell_is_inert_and_comes_back(text: str) -> None:
    assert _live(_inert(text)) == text
    assert _inert(text)[:1] not in ("=", "+", "-", "@", "\t", "\r")


NAMES = {
    "folded": (" Ada \n Lovelace\t", "Ada Lovelace"),
    "joined letters": ("می\u200cخواهم", "می\u200cخواهم"),
    "an emoji": ("👩\u200d🔬", "👩\u200d🔬"),
}


@pytest.mark.parametrize(("text", "folded"), NAMES.values(), ids=NAMES)
def test_a_name_is_one_line(text: str, folded: str) -> None:
    assert one_line(text, "name", most=20) == folded


def test_memory_does_not_grow_with_the_file(one_house: Services, tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        file = tmp_path / f"{rows}.csv"
        # Bad rows: the reading and reporting alone, at 20,000 rows a second.
        file.write_text("email\n" + "nobody\n" * rows)
        tracemalloc.start()
        outcome = import_csv(one_house, file)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert outcome.bad_lines == rows
        assert len(outcome.bad) == min(rows, SHOWN)
        return most

    peak(SHOWN)
    assert peak(8 * SHOWN) < 2 * peak(SHOWN)
