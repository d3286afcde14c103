"""The benchmarks run on tiny sizes and print their rows. Nothing here judges a time."""

from __future__ import annotations

import os
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import __main__ as bench
from benchmarks import (
    collect,
    dedupe,
    demo,
    planning,
    population,
    processes,
    room,
    sending,
    surroundings,
    topics,
)
from benchmarks.measuring import Row, Took, clock, interleave, show, timed
from benchmarks.processes import apart
from benchmarks.sending import checking, latency, million, usual, wire
from benchmarks.sending.trial import Trial, attempt
from benchmarks.sinks import fast_sink, plain_sink
from digest.cli import bench as command

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
    "room": partial(room.run, people=4, papers=60),
    "million": partial(million.run, sizes=[2, 20], papers=60),
}


def test_all_are_tried() -> None:
    assert QUICK.keys() == bench.BENCHMARKS.keys() | bench.ALONE.keys()


@pytest.mark.parametrize("name", QUICK)
def test_it_runs_and_prints_its_rows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = QUICK[name]()
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
    only: dict[str, Any] = {"rounds": 1, "kinds": ["PostgreSQL"]}
    rows = [
        *collect.run(**only),
        *planning.run(people=4, few=2, papers=60, **only),
        *sending.run(people=4, recorded=6, letters=2, papers=60, **only),
    ]
    assert sum("PostgreSQL" in row.what for row in rows) == 7


def test_a_limit_of_postfix_is_measured_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = wire.smtp_source()
    if program is None:
        pytest.skip("Postfix's smtp-source is not here; POSTFIX_DIR names where it is unpacked")
    with plain_sink() as sink:
        trial = wire.by_postfix(program, sink, sessions=2, mails=5, size=1000)
        assert sink.count() == trial.mails == 5
    monkeypatch.setenv("POSTFIX_DIR", str(tmp_path))
    assert wire.smtp_source() is None


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
    monkeypatch.setattr(bench, "BENCHMARKS", {"it": lambda: [timed("work", [took], bar=1.0)]})
    monkeypatch.setenv("CHECK", check)
    assert bench.main([]) == code
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
    ("usual_rate", "limit", "busy", "missed"),
    [
        (50, 10_000, 0.5, [False, False]),
        (60, 20_000, 0.5, [True, True]),
        (60, 20_000, 0.95, [False, False]),
        (50, 13_000, 0.5, [False, False]),
    ],
    ids=["kept", "missed", "a saturated mail server judges nobody", "between floor and bar"],
)
def test_what_a_ratio_is_held_against(
    usual_rate: float, limit: float, busy: float, missed: list[bool]
) -> None:
    took = {
        sending.USUAL: _took(usual_rate),
        "SQLite": _took(5000, busy=busy),
        sending.BARE: _took(90_000),
        f"{sending.POSTFIX}1": _took(limit / 2),
        f"{sending.POSTFIX}8": _took(limit),
    }
    rows = sending.ratios("SQLite", took)
    assert [row.missed for row in rows] == missed
    assert [("not judged" in row.note) for row in rows] == [busy > 0.9] * 2
    assert rows[1].what == f"SQLite : {sending.POSTFIX}8"
    without = {name: trials for name, trials in took.items() if sending.POSTFIX not in name}
    assert sending.ratios("SQLite", without)[1].what == f"SQLite : {sending.BARE}"


# ------------------------------------------------------------------ mail servers


@pytest.fixture
def letters() -> list[usual.Letter]:
    paper = {"title": [("A", False)], "summary": [("long " * 20_000, True)], "links": []}
    names = ("ada", "ben", "ben")
    return [
        usual.Letter(name=name, address=f"{name}@example.org", papers=[paper])  # type: ignore[list-item]
        for name in names
    ]


def test_the_sink_keeps_each_mail_with_its_recipient(
    tmp_path: Path, letters: list[usual.Letter]
) -> None:
    with plain_sink(folder=tmp_path) as sink:
        trial = attempt(sink, usual.prepare, sink.port, letters)
        assert trial.mails == sink.count() == 3
    kept = [path.read_bytes().partition(b"\n") for path in tmp_path.iterdir()]
    assert sorted(recipient for recipient, _, _ in kept) == [
        *(b"ada@example.org", b"ben@example.org", b"ben@example.org")
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
        assert attempt(sink, usual.prepare, sink.port, letters).mails == 3


# ------------------------------------------------------------------ what a recording shows


PAGES = [f"{population.PAGES}a/{number}" for number in range(3)]


def _mail(name: str, address: str, pages: list[str], *, shown: list[str]) -> bytes:
    html = "".join(f'<h2 class="title"><a href="{page}">A title</a></h2>' for page in shown)
    text = "".join(f"    {page}\n    PDF: {page}/pdf\n" for page in pages)
    return (
        f'To: "{name}" <{address}>\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n'
        f"--b\r\nContent-Type: text/plain\r\n\r\n{text}\r\n"
        f"--b\r\nContent-Type: text/html\r\n\r\n{html}\r\n--b--\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("recipient", "mail", "fault"),
    [
        ("ada@example.org", _mail("Ada", "ada@example.org", PAGES, shown=PAGES), ""),
        ("ada@example.org", _mail("Ben", "ada@example.org", PAGES, shown=PAGES), "another's"),
        ("ada@example.org", _mail("Ada", "ben@example.org", PAGES, shown=PAGES), "another's"),
        ("ada@example.org", _mail("Ada", "ada@example.org", PAGES[1:], shown=PAGES), "plain"),
        ("ada@example.org", _mail("Ada", "ada@example.org", PAGES, shown=PAGES[::-1]), "html"),
        ("eve@example.org", _mail("Eve", "eve@example.org", PAGES, shown=PAGES), "no subscriber"),
    ],
    ids=["right", "name", "address", "text", "order in HTML", "stranger"],
)
def test_a_mail_that_is_not_theirs_is_found(recipient: str, mail: bytes, fault: str) -> None:
    expected = {"ada@example.org": checking.Expected(name="Ada", pages=PAGES)}
    found = list(checking.faults(recipient, mail, expected))
    assert len(found) == bool(fault)
    assert all(fault in sentence for sentence in found)


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
