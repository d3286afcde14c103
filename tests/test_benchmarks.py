"""The benchmarks run on tiny sizes and print their rows. Nothing here judges a time."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from benchmarks import __main__ as bench
from benchmarks import collect, dedupe, demo, send, surroundings, topics
from benchmarks.measuring import Row, Took, interleave, show, timed

QUICK: dict[str, Callable[[], list[Row]]] = {
    "demo": partial(demo.run, rounds=1, demos=1),
    "collect": partial(collect.run, rounds=1, kinds=["SQLite"]),
    "send": partial(send.run, people=2, rounds=1, kinds=["SQLite"]),
    "topics": partial(topics.run, papers=3, topics=2, rounds=1),
    "dedupe": partial(dedupe.run, most=20),
}


def test_all_are_tried() -> None:
    assert QUICK.keys() == bench.BENCHMARKS.keys()


@pytest.mark.parametrize("name", QUICK)
def test_it_runs_and_prints_its_rows(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = QUICK[name]()
    assert rows
    show(name, rows)
    printed = capsys.readouterr().out.splitlines()
    for row, line in zip(rows, printed[1:], strict=False):
        assert line.startswith(row.what)
        assert row.figures or row.note


@pytest.mark.parametrize("name", ["collect", "send", "topics", "dedupe"])
def test_without_the_recorded_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = surroundings.ROOT / "nowhere"
    monkeypatch.setattr(surroundings, "SHARED", nowhere)
    monkeypatch.setattr(dedupe, "DATA", nowhere)
    rows = QUICK[name]()
    assert rows
    assert name != "dedupe" or "not here" in rows[0].note


def test_on_each_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "SHARED", surroundings.ROOT / "nowhere")
    rows = [*collect.run(rounds=1), *send.run(people=2, rounds=1)]
    for kind in surroundings.KINDS:
        assert sum(kind in row.what for row in rows) == 4


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


def test_the_ways_take_turns_and_the_median_is_set_against_the_baselines() -> None:
    turns: list[str] = []
    found = interleave(2, {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")})
    assert turns == ["a", "b", "a", "b"]
    assert found == {"a": [None, None], "b": [None, None]}
    took = [Took(seconds=seconds, cpu=0.25) for seconds in (9.0, 1.0, 3.0)]
    figures = timed("work", took, baseline=[Took(seconds=2.0, cpu=0.0)]).figures
    assert (figures["median"], figures["min-max"]) == ("3.00 s", "1.00 s-9.00 s")
    assert (figures["x baseline"], figures["CPU"]) == ("1.50", "250 ms")


def test_the_sink_tells_a_mail_from_somebody_elses() -> None:
    with surroundings.sink() as sink:
        with smtplib.SMTP("127.0.0.1", sink.port) as client:
            for address in ("ada@example.org", "ben@example.org", "ben@example.org"):
                text = f"To: <ben@example.org>\r\n\r\n.{'x' * 70_000}"
                client.sendmail("digest@example.org", [address], text)
        received = sink.report()
        assert (received.mails, received.recipients, received.own) == (3, 2, 2)
        assert received.size > 210_000
        assert sink.report().mails == 0
