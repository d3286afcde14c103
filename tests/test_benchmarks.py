"""The benchmarks run on tiny sizes and print their rows. Nothing here judges a time."""

from __future__ import annotations

import multiprocessing
import os
import re
import smtplib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import select

from benchmarks import __main__ as bench
from benchmarks import (
    collect,
    databases,
    dedupe,
    demo,
    planning,
    population,
    processes,
    room,
    search,
    sending,
    surroundings,
    topics,
)
from benchmarks.measuring import Row, Took, clock, interleave, show, timed
from benchmarks.processes import apart
from benchmarks.sending import checking, engine, latency, million, usual, wire
from benchmarks.sending.ratio import compare
from benchmarks.sending.trial import Trial, attempt
from benchmarks.sinks import fast_sink, plain_sink
from digest import schema
from digest.cli import bench as command
from digest.models import Site
from digest.rendering.card import View
from digest.storage.database import reading

pytestmark = pytest.mark.long

QUICK: dict[str, Callable[[], list[Row]]] = {
    "demo": partial(demo.run, rounds=1, demos=1),
    "collect": partial(collect.run, rounds=1, kinds=["SQLite"]),
    "plan": partial(planning.run, people=4, few=2, rounds=1, papers=60, kinds=["SQLite"]),
    "send": partial(
        sending.run, people=4, recorded=6, letters=2, rounds=1, papers=60, kinds=["SQLite"]
    ),
    "latency": partial(
        latency.run, people=4, seconds=5, rounds=1, papers=60, connections=[2], kinds=["SQLite"]
    ),
    "topics": partial(topics.run, papers=3, topics=2, rounds=1),
    "dedupe": partial(dedupe.run, most=20),
    "search": partial(search.run, size=400, readers=50, requests=6, rate=100.0, kinds=["SQLite"]),
    "room": partial(room.run, people=4, papers=60),
    "million": partial(million.run, sizes=[2, 20], papers=60),
}


@cache
def _rows(name: str) -> list[Row]:
    """What it prints on tiny sizes."""
    return QUICK[name]()


def test_all_are_tried() -> None:
    assert QUICK.keys() == bench.BENCHMARKS.keys() | bench.ALONE.keys()


@pytest.mark.parametrize("name", QUICK)
def test_it_runs_and_prints_its_rows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = _rows(name)
    assert rows
    show(name, rows)
    printed = capsys.readouterr().out.splitlines()
    for row, line in zip(rows, printed[1:], strict=False):
        assert line.startswith(row.what)
        assert row.figures or row.note


@pytest.mark.parametrize("name", ["topics", "dedupe"])
def test_without_the_recorded_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = surroundings.ROOT / "nowhere"
    monkeypatch.setattr(surroundings, "SHARED", nowhere)
    monkeypatch.setattr(dedupe, "DATA", nowhere)
    rows = QUICK[name]()
    assert rows
    assert name != "dedupe" or "not here" in rows[0].note


def test_on_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, without the recorded day and the mail server in C."""
    monkeypatch.setattr(surroundings, "SHARED", surroundings.ROOT / "nowhere")
    monkeypatch.delenv("POSTFIX_DIR", raising=False)
    monkeypatch.setattr(wire, "smtp_source", lambda: None)
    only: dict[str, Any] = {"rounds": 1, "kinds": ["PostgreSQL"]}
    # Of so many that the database's share is more than a tick of the kernel's clock (10 ms).
    planned = planning.run(people=200, few=2, papers=60, **only)
    sent = sending.run(people=4, recorded=6, letters=2, papers=60, **only)
    rows = [*collect.run(**only), *planned, *sent]
    assert sum("PostgreSQL" in row.what for row in rows) == 8
    assert {"planner's CPU a reader", "bar on it", "PostgreSQL's", "both"} <= {
        name for name, figure in planned[0].figures.items() if figure
    }
    notes = {row.what: row.note for row in sent}
    assert "benchmarks/sink.py, for" in notes["the mail server"]
    assert notes[f"{sending.POSTFIX}N"].endswith(f"the limit is {sending.BARE}")


def test_the_usual_way_sends_as_much_as_the_engine() -> None:
    rows = {row.what: row for row in _rows("send")}
    assert not rows["the usual way's mails"].missed, rows["the usual way's mails"].note
    ways = [row for what, row in rows.items() if "mails/s" in row.figures]
    assert len(ways) >= 3
    sizes = {row.what: float(row.figures["kB a mail"]) for row in ways}
    assert min(sizes.values()) > 45
    # Of different readers, who get 13 to 17 papers.
    assert max(sizes.values()) < 1.3 * min(sizes.values())


# Every benchmark that judges PostgreSQL, on tiny sizes.
ON_POSTGRESQL: dict[str, Callable[[], list[Row]]] = {
    "collect": partial(collect.run, rounds=1, kinds=["PostgreSQL"]),
    "plan": partial(planning.run, kinds=["PostgreSQL"]),
    "send": partial(sending.run, kinds=["PostgreSQL"]),
    "latency": partial(latency.run, kinds=["PostgreSQL"]),
    "million": million.run,
    "search": partial(search.run, kinds=["PostgreSQL"]),
}


@pytest.mark.parametrize("name", ON_POSTGRESQL)
def test_a_database_that_is_not_there_is_required(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "find_spec", lambda _: None)
    [row] = [row for row in ON_POSTGRESQL[name]() if row.what == "PostgreSQL"]
    assert row.skipped
    assert row.required


def test_a_million_needs_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(million, "DISK", 1e24)
    [row] = million.run(sizes=[2], papers=60)
    assert row.skipped
    assert "lacks room" in row.note


def test_the_readers_are_spread_over_providers(tmp_path: Path) -> None:
    with databases.databases(tmp_path, ["SQLite"]) as creates:
        url = creates["SQLite"]("readers", "")
        with population.house(tmp_path / "house", url) as services:
            population.populate(services, people=9_000, papers=60)
            services.plan_due(100)
            with reading(services.engine) as connection:
                addresses = connection.scalars(select(schema.subscriber.c.address)).all()
                providers = connection.scalars(select(schema.delivery.c.provider)).all()
    domains = Counter(address.partition("@")[2] for address in addresses)
    large = [count for domain, count in domains.items() if domain.startswith("large-")]
    assert [count / len(addresses) for count in large] == [pytest.approx(0.2, abs=0.01)] * 3
    assert len(domains) == 3 + population.SMALL
    assert len(set(providers)) > 20


def test_a_limit_of_postfix_is_measured_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The tests' POSTFIX_DIR, or what the machine has.
    program = wire.smtp_source()
    if program is None:
        pytest.skip("Postfix's smtp-source is not here; POSTFIX_DIR names where it is unpacked")
    with plain_sink() as sink:
        trial = wire.by_postfix(program, sink, sessions=2, mails=5, size=1000)
        assert sink.count() == trial.mails == 5


def test_a_wrong_directory_for_postfix_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTFIX_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="POSTFIX_DIR holds no smtp-source"):
        wire.smtp_source()
    assert bench.main([]) == 2
    assert "POSTFIX_DIR holds no smtp-source" in capsys.readouterr().out


def _main(
    monkeypatch: pytest.MonkeyPatch, row: Row, *names: str, check: str = "1", alone: bool = False
) -> int:
    """The exit code where the row is all that is found."""
    monkeypatch.setattr(wire, "smtp_source", lambda: None)
    monkeypatch.setattr(bench, "BENCHMARKS", {} if alone else {"it": lambda: [row]})
    monkeypatch.setattr(bench, "ALONE", {"it": lambda: [row]} if alone else {})
    monkeypatch.setenv("CHECK", check)
    return bench.main(names)


def test_what_was_not_judged_is_told_loudly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row(what="ours : theirs", judged=False, note="0.6")
    assert _main(monkeypatch, row) == 0
    printed = capsys.readouterr().out
    assert "NOT JUDGED 0.6" in printed
    assert "0 bars missed, 1 bars not judged" in printed
    assert printed.endswith("NOT JUDGED it: ours : theirs\n")


@pytest.mark.parametrize(
    ("required", "names", "code"),
    [(True, [], 1), (False, [], 0), (False, ["it"], 1)],
    ids=["required", "not required", "asked for by name"],
)
def test_what_was_skipped_is_a_failure_where_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    required: bool,
    names: list[str],
    code: int,
) -> None:
    row = Row(what="a thing", skipped=True, required=required, note="is not here")
    assert _main(monkeypatch, row, *names, check="") == 0
    assert "SKIPPED is not here" in capsys.readouterr().out
    assert _main(monkeypatch, row, *names) == code
    assert ("NOT MEASURED it: a thing" in capsys.readouterr().out) is bool(code)


@pytest.mark.parametrize(
    ("check", "alone", "code"),
    [("1", False, 1), ("", False, 0), ("1", True, 0)],
    ids=["as a whole", "unchecked", "what runs alone takes its time"],
)
def test_all_of_them_may_not_take_long(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    check: str,
    alone: bool,
    code: int,
) -> None:
    assert bench.LONGEST == 16 * 60
    monkeypatch.setattr(bench, "LONGEST", -1)
    assert _main(monkeypatch, Row(what="work"), "it", check=check, alone=alone) == code
    assert ("MISSED the whole" in capsys.readouterr().out) is bool(code)


@pytest.mark.parametrize(
    ("check", "seconds", "code"),
    [("1", 2.0, 1), ("1", 1.0, 0), ("", 2.0, 0)],
    ids=["a bar is missed", "all are kept", "a bar is missed, unchecked"],
)
def test_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    check: str,
    seconds: float,
    code: int,
) -> None:
    took = Took(seconds=seconds, cpu=0.5)
    assert _main(monkeypatch, timed("work", [took], bar=1.0), check=check) == code
    assert ("MISSED" in capsys.readouterr().out) is (seconds > 1)
    assert bench.main(["another"]) == 2


def test_help_loads_no_database() -> None:
    """What keeps `digest --help` quick, told without a clock."""
    asked = "import sys; sys.argv = ['digest', '--help']; from digest.cli import main"
    told = "print('sqlalchemy' in sys.modules, 'httpx' in sys.modules)"
    script = f"{asked}\ntry:\n    main()\nexcept SystemExit:\n    {told}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "digest" in done.stdout
    assert done.stdout.splitlines()[-1] == "False False"


def test_the_command_passes_names_and_exit_code_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        command.bench(["another"])
    assert ended.value.exit_code == 2
    assert "No benchmark another" in capfd.readouterr().out


def test_the_command_without_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "CHECKOUT", tmp_path)
    with pytest.raises(SystemExit) as ended:
        command.bench(["send"])
    assert ended.value.code == 2
    assert "checkout" in capsys.readouterr().err


def test_the_ways_take_turns_and_the_median_is_set_against_the_baselines() -> None:
    turns: list[str] = []
    found = interleave(2, {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")})
    assert turns == ["a", "b", "a", "b"]
    assert found == {"a": [None, None], "b": [None, None]}
    took = [Took(seconds=seconds, cpu=0.25) for seconds in (9.0, 1.0, 3.0)]
    figures = timed("work", took, baseline=[Took(seconds=2.0, cpu=0.0)]).figures
    assert (figures["median"], figures["min-max"]) == ("3.00 s", "1.00 s-9.00 s")
    assert (figures["x baseline"], figures["CPU"]) == ("1.50", "250 ms")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.214, "3.21 s"), (0.0482, "48.2 ms"), (0.00019, "190 us"), (0.0, "0.00 us")],
)
def test_a_time_in_three_digits(seconds: float, words: str) -> None:
    assert clock(seconds) == words


# ------------------------------------------------------------------ ratios


def _took(rate: float, *, busy: float = 0.5) -> list[Trial]:
    return [Trial(mails=int(rate), seconds=1, sender=0.5, sink=busy)]


@pytest.mark.parametrize(
    ("ours", "theirs", "missed", "judged"),
    [
        (_took(400), _took(1000), False, True),
        (_took(300), _took(1000), True, True),
        (_took(300), _took(1000, busy=0.95), True, True),
        (_took(600), _took(1000, busy=0.95), False, False),
        (_took(300, busy=0.95), _took(1000), False, False),
        (_took(600, busy=0.95), _took(1000), False, True),
        (_took(300, busy=0.95), _took(1000, busy=0.95), False, False),
    ],
    ids=[
        "kept, between floor and bar",
        "missed",
        "missed all the more, for theirs would be faster",
        "theirs would be faster, so who knows",
        "ours would be faster, so who knows",
        "kept all the more, for ours would be faster",
        "both would be faster",
    ],
)
def test_what_a_saturated_mail_server_says(
    ours: list[Trial], theirs: list[Trial], missed: bool, judged: bool
) -> None:
    row = compare("ours : theirs", ours, theirs, bar=0.5, floor=0.35)
    assert (row.missed, row.judged) == (missed, judged)
    assert f"mail server {ours[0].busy:.0%} and {theirs[0].busy:.0%} busy" in row.note
    assert ("bottleneck" in row.note) is not judged


@pytest.mark.parametrize(
    ("usual_rate", "limit", "missed"),
    [(50, 10_000, [False, False]), (60, 20_000, [True, True]), (50, 13_000, [False, False])],
    ids=["kept", "missed", "between floor and bar"],
)
def test_what_a_ratio_is_held_against(usual_rate: float, limit: float, missed: list[bool]) -> None:
    took = {
        sending.USUAL: _took(usual_rate),
        "SQLite": _took(5000),
        sending.BARE: _took(90_000),
        f"{sending.POSTFIX}1": _took(limit / 2),
        f"{sending.POSTFIX}8": _took(limit),
    }
    rows = sending.ratios("SQLite", took)
    assert [row.missed for row in rows] == missed
    assert rows[1].what == f"SQLite : {sending.POSTFIX}8"
    without = {name: trials for name, trials in took.items() if sending.POSTFIX not in name}
    assert sending.ratios("SQLite", without)[1].what == f"SQLite : {sending.BARE}"


def test_beside_a_saturated_limit_stands_the_fastest_that_is_not() -> None:
    took = {
        sending.USUAL: _took(40),
        "SQLite": _took(5000),
        f"{sending.POSTFIX}1": _took(5_000),
        f"{sending.POSTFIX}8": _took(8_000),
        f"{sending.POSTFIX}16": _took(9_000, busy=0.97),
        f"{sending.POSTFIX}32": _took(10_000, busy=0.99),
    }
    rows = sending.ratios("SQLite", took)
    assert [row.what for row in rows[1:]] == [
        f"SQLite : {sending.POSTFIX}32",
        f"SQLite : {sending.POSTFIX}8",
    ]
    assert [row.judged for row in rows] == [True, False, True]
    assert rows[2].note == "0.625, without a bar, mail server 50% busy"


def test_the_ratio_of_far_to_near_tells_how_busy_both_mail_servers_were() -> None:
    rows = _rows("latency")
    assert all(row.figures["sink busy"] for row in rows[:2])
    assert re.search(r"mail server \d+% and \d+% busy", rows[2].note)


# ------------------------------------------------------------------ mail servers


SITE = Site(
    name="Paper Digest",
    base_url=population.BASE,
    list_id="digest.example.org",
    sender_address="digest@example.org",
)


@pytest.fixture
def letters() -> list[usual.Letter]:
    paper = View(
        title=[("A", False)],
        url="",
        byline="",
        summary=[("long " * 20_000, True)],
        votes="",
        unit="",
        tag="",
        links=[],
        why="",
        noted=False,
        mutes=False,
    )
    return [
        usual.Letter(words=_words(name, f"{name}@example.org"), papers=[paper])
        for name in ("ada", "ben", "ben")
    ]


def test_the_sink_keeps_each_mail_with_its_recipient(
    tmp_path: Path, letters: list[usual.Letter]
) -> None:
    with plain_sink(folder=tmp_path) as sink:
        trial = attempt(sink, usual.prepare, sink.port, SITE, letters)
        assert trial.mails == 3
        assert sink.count() == 3 + 1  # the first one warms up
    kept = [path.read_bytes().partition(b"\n") for path in tmp_path.iterdir()]
    assert sorted(recipient for recipient, _, _ in kept) == [
        *(b"ada@example.org", b"ada@example.org", b"ben@example.org", b"ben@example.org")
    ]
    assert all(len(content) > 100_000 for _, _, content in kept)


def test_the_sink_takes_chained_envelopes() -> None:
    content = b"Subject: a mail\r\n\r\n" + b"words\r\n" * 10_000
    with plain_sink() as sink:
        trial = attempt(sink, wire.prepare, sink.port, 10, content, 3)
        assert trial.mails == sink.count() == 10


def test_the_sink_holds_answers_back() -> None:
    with plain_sink(delay=150) as sink, smtplib.SMTP("127.0.0.1", sink.port) as client:
        started = time.monotonic()
        assert client.noop()[0] == 250
        assert time.monotonic() - started >= 0.14


def test_the_fast_sink_takes_mail(tmp_path: Path, letters: list[usual.Letter]) -> None:
    with fast_sink(tmp_path) as sink:
        assert attempt(sink, usual.prepare, sink.port, SITE, letters).mails == 3


def test_the_fast_sink_cannot_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "tools" / "fastsink.c"
    source.parent.mkdir()
    source.write_text("this is no C\n")
    monkeypatch.setattr(surroundings, "SHARED", tmp_path)
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'an error: no C' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with fast_sink(tmp_path) as sink:
        assert sink.name.endswith(f", for {broken} cannot build fastsink.c: an error: no C")
        assert sink.count() == 0


def test_a_timed_run_in_which_somebody_gets_nothing_is_no_run(tmp_path: Path) -> None:
    with databases.databases(tmp_path, ["SQLite"]) as creates, plain_sink() as sink:
        url = creates["SQLite"]("few", "")
        with population.house(tmp_path / "house", url) as services:
            population.populate(services, people=3, papers=60)
            services.plan_due()
        with (
            engine.prepare(tmp_path / "house", url, sink.port, 4) as deliver,
            pytest.raises(RuntimeError, match="4 were to get a mail, 3 did"),
        ):
            deliver()


# ------------------------------------------------------------------ what a recording shows


PAGES = [f"{population.PAGES}a/{number}" for number in range(3)]


def _words(name: str, address: str) -> dict[str, str]:
    """What is frozen for somebody."""
    return {
        "name": name,
        "address": address,
        "subject": f"A title for {name}",
        "date": "Fri, 29 May 2026 06:00:00 +0000",
        "message_id": f"<{name}@example.org>",
        "preheader": "Another title",
        "date_line": "Friday",
        "lead": "Three papers for you.",
        "why": "You get this every day.",
        "unsubscribe_url": f"{population.BASE}/u/{name}",
        "preferences_url": f"{population.BASE}/me/{name}",
        "view_url": f"{population.BASE}/v/{name}",
        "feedback": name,
    }


def _mail(
    *, pages: list[str] = PAGES, shown: list[str] = PAGES, linked: str = "Ada", **headers: str
) -> bytes:
    """Ada's, but for what is given; `linked` is whose links the HTML has."""
    ada, other = _words("Ada", "ada@example.org"), _words(linked, "")
    html = f'<a href="{other["view_url"]}">A link</a>'
    for number, page in enumerate(shown, 1):
        html += f'<h2 class="title"><a href="{page}">A title</a></h2>'
        link = f"{population.BASE}/f/{other['feedback']}/{number}"
        html += "".join(
            f'<a href="{link}/{act}">A link</a>' for act in ("more", "less", "save", "mute")
        )
    html += "".join(
        f'<a href="{url}">A link</a>'
        for url in (
            *(other["preferences_url"], other["unsubscribe_url"]),
            *(f"{population.BASE}/", population.BASE),
        )
    )
    text = "".join(
        f"    {page}\n    PDF: {page}/pdf\n    Like: {population.BASE}/f/Ada/{number}\n"
        for number, page in enumerate(pages, 1)
    )
    text += f"{ada['view_url']}\n\n{ada['preferences_url']}\n\n{ada['unsubscribe_url']}\n\n"
    text += f"{population.BASE}/\n\n{population.BASE}\n"
    lines = {
        "To": '"Ada" <ada@example.org>',
        "Subject": ada["subject"],
        "Message_ID": ada["message_id"],
        "List_Unsubscribe": f"<{ada['unsubscribe_url']}>",
        "List_Unsubscribe_Post": "List-Unsubscribe=One-Click",
        **headers,
    }
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return (
        f"{head}Content-Type: multipart/alternative; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n"
        f"--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n--b--\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("mail", "fault"),
    [
        (_mail(), ""),
        (_mail(To='"Ben" <ada@example.org>'), "another's"),
        (_mail(To='"Ada" <ben@example.org>'), "another's"),
        (_mail(pages=PAGES[::-1]), "other papers than theirs in plain"),
        (_mail(shown=PAGES[::-1]), "other papers than theirs in html"),
        (_mail(Subject="A title for Ben"), "Subject"),
        (_mail(Message_ID="<Ben@example.org>"), "Message-ID"),
        (_mail(List_Unsubscribe=f"<{population.BASE}/u/Ben>"), "List-Unsubscribe:"),
        (_mail(List_Unsubscribe_Post="no"), "List-Unsubscribe-Post:"),
        (_mail(linked="Ben"), "own links in html"),
        (_mail().replace(b"\n\nhttps://digest.example.org/u/Ada\n", b"\n"), "own links in plain"),
        (_mail().replace(b"/me/Ada\n", b"/me/Ben\n"), "own links in plain"),
    ],
    ids=[
        *("right", "name", "address", "text", "order in HTML", "subject", "Message-ID"),
        *("List-Unsubscribe", "one click", "HTML links", "no link to leave", "text links"),
    ],
)
def test_a_mail_that_is_not_theirs_is_found(mail: bytes, fault: str) -> None:
    ada = checking.Expected(personal=_words("Ada", "ada@example.org"), pages=PAGES)
    found = list(checking.faults("ada@example.org", mail, {"ada@example.org": ada}))
    assert len(found) == bool(fault)
    assert all(fault in sentence for sentence in found)
    [stranger] = checking.faults("eve@example.org", mail, {"ada@example.org": ada})
    assert "no subscriber" in stranger


def test_what_was_frozen_is_looked_at_before_mails_are_held_against_it() -> None:
    def frozen(name: str, **words: str) -> checking.Expected:
        return checking.Expected(personal={**_words(name, name), **words}, pages=PAGES)

    ada, ben = frozen("ada"), frozen("ben")
    assert not list(checking.doubts({"ada": ada, "ben": ben}, people=2))
    assert list(checking.doubts({"ada": ada, "ben": ben}, people=3)) == [
        "2 of 3 people have a digest"
    ]
    [shared] = checking.doubts(
        {"ada": ada, "ben": frozen("ben", unsubscribe_url=f"{population.BASE}/u/ada")}, people=2
    )
    assert "2 people share a unsubscribe_url" in shared
    [mixed] = checking.doubts({"ada": ada, "eve": ben}, people=2)
    assert mixed == "eve: was frozen as ben"


def test_the_limit_sends_the_mail_whose_size_is_nearest_to_the_average() -> None:
    assert checking.nearest({"ada": 40, "ben": 61, "eve": 80}) == "ben"
    assert checking.mean([40, 61, 80]) == 60


# ------------------------------------------------------------------ processes


@contextmanager
def _busy(seconds: float, size: int) -> Iterator[Callable[[], int]]:
    def work() -> int:
        held, started = bytearray(b"x") * size, time.process_time()
        while time.process_time() - started < seconds:
            pass
        return len(held)

    yield work


@contextmanager
def _broken() -> Iterator[Callable[[], None]]:
    def work() -> None:
        raise OSError("as a test wants it")

    yield work


@contextmanager
def _endless() -> Iterator[Callable[[], None]]:
    yield lambda: time.sleep(3600)


def _run(prepare: processes.Prepare) -> None:
    with apart(prepare) as process:
        process.start()
        process.wait()


@pytest.mark.skipif(not processes.PROC.is_dir(), reason="only Linux has /proc")
def test_a_process_is_measured_from_outside() -> None:
    with apart(_busy, 0.3, 200_000_000) as process:
        before = processes.cpu(process.pid)
        process.start()
        assert process.wait()[0] == 200_000_000
        assert processes.cpu(process.pid) - before >= 0.29  # /proc counts in hundredths
        assert process.peak > 200_000_000
        assert processes.parent(process.pid) == os.getpid()
        assert process.pid in processes.tree(os.getpid())


def test_a_process_that_breaks_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="ended early"):
        _run(_broken)
    assert "as a test wants it" in capfd.readouterr().err


def _fail() -> None:
    with apart(_endless) as process:
        process.start()
        raise ZeroDivisionError


def test_a_process_does_not_outlive_a_failure_here() -> None:
    """Its work may wait for something that nobody says any more."""
    with pytest.raises(ZeroDivisionError):
        _fail()
    assert not multiprocessing.active_children()
