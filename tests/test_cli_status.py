"""`digest status` as a person and a program meet it, once and again and again."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from digest import schema
from digest.cli.status import CLEAR
from digest.models import State
from digest.storage.database import open_database
from digest.storage.migrating import upgrade
from tests.rows import HOUR, MINUTE, NOW, Rows

ENTRY = [sys.executable, "-c", "from digest.cli import main; main()"]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Rows]:
    """The database of the current directory."""
    (tmp_path / "var").mkdir()
    engine = open_database(f"sqlite:///{tmp_path}/var/digest.db")
    upgrade(engine)
    yield Rows(engine)
    engine.dispose()


@contextmanager
def asked(
    folder: Path, *options: str, out: Any = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """`digest status` at work in a folder, with no settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIGEST_")}
    with subprocess.Popen(
        [*ENTRY, "status", *options],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Ctrl-C: the exit code, and what was said about it."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    return process.wait(timeout=20), process.stderr.read()


def lines(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def test_what_holds_mail_up_is_shown_with_what_to_do(here: Rows, tmp_path: Path) -> None:
    text = "Digests are late. See: digest status"
    here.add(schema.alert, kind="late", subject="2026-05-28", text=text, since=NOW - MINUTE)
    here.digest(NOW - HOUR, State.UNKNOWN, reason="no answer", text="")
    here.digest(NOW - 99 * HOUR, State.UNKNOWN, reason="crash")
    for number in range(7):
        here.digest(NOW - HOUR, State.PLANNED, provider=f"{number}.example")
    here.digest(NOW - 2 * HOUR, State.PLANNED, provider="0.example")
    here.route("one.example", state="open", reason="5 of 9 were refused: 550 5.7.1 blocked.")
    here.add(schema.worker, host="ship", pid=7, started_at=NOW, heartbeat_at=NOW)
    with asked(tmp_path, "--now", NOW.isoformat(), "--days=1") as process:
        out, err = process.communicate(timeout=60)
    said = out.splitlines()
    assert said[0] == f"Alert since 2026-05-28 11:59Z: {text}"
    assert "Unknown: whether 2 mails arrived." in out
    assert (
        "Stopped since 2026-05-28 11:00Z: smtp.example.org to one.example."
        " 5 of 9 were refused: 550 5.7.1 blocked. Next try: 2026-05-28 12:05Z." in said
    )
    assert (
        "Waiting now: 8 mails, the first since 2026-05-28 10:00Z (0.example 2, 1.example 1,"
        " 2.example 1, 3.example 1, 4.example 1, ...)." in said
    )
    assert any(
        line.startswith("Delivering: ship, process 7, since 2026-05-28 12:00Z") for line in said
    )
    assert "without a row" in err


def test_nothing_is_said_of_an_engine_that_is_at_rest(here: Rows, tmp_path: Path) -> None:
    with asked(tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert not [
        word for word in ("Alert", "Unknown:", "Stopped", "Waiting", "Worker") if word in out
    ]


def test_watching_through_a_pipe_gives_one_report_after_another(here: Rows, tmp_path: Path) -> None:
    with asked(tmp_path, "--watch") as process:
        assert lines(process).readline() == "Digests due in the last 7 days:\n"
        seen = [lines(process).readline() for _ in range(30)]
        assert interrupted(process) == (0, "")
    again = seen.index("Digests due in the last 7 days:\n")
    assert seen[again - 1] == "\n"
    assert CLEAR not in "".join(seen)


def test_watching_as_json_is_a_line_for_each_look(here: Rows, tmp_path: Path) -> None:
    here.route("one.example", state="open", reason="blocked")
    with asked(tmp_path, "--watch", "--json") as process:
        found = [json.loads(lines(process).readline()) for _ in range(2)]
        assert interrupted(process) == (0, "")
    assert found[0]["end"] < found[1]["end"]
    assert found[0]["breakers"][0]["provider"] == "one.example"


def test_watching_on_a_terminal_draws_the_screen_anew(here: Rows, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with asked(tmp_path, "--watch", out=theirs) as process:
        os.close(theirs)
        seen = b""
        while seen.count(CLEAR.encode()) < 2:
            seen += os.read(ours, 1000)
        assert interrupted(process) == (0, "")
    os.close(ours)
    assert b"Digests due in the last 7 days:" in seen


def test_watching_ends_when_nobody_reads(here: Rows, tmp_path: Path) -> None:
    with asked(tmp_path, "--watch") as process:
        lines(process).readline()
        lines(process).close()
        assert process.stderr is not None
        assert (process.wait(timeout=20), process.stderr.read()) == (0, "")
