"""`digest backup`, `restore` and `restored` as a person types them, each a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from digest import journal
from digest.storage.database import open_database
from digest.storage.house import FILE as MARK

ROOT = Path(__file__).resolve().parents[1]
ENTRY = [sys.executable, "-c", "from digest.cli import main; main()"]


@dataclass
class Shell:
    """Runs commands in a folder, with no settings but those given."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __call__(self, command: str, *, code: int = 0) -> str:
        """What the command printed, on the stream that fits the exit code expected of it."""
        kept = {name: value for name, value in os.environ.items() if name[:7] != "DIGEST_"}
        done = subprocess.run(
            [*ENTRY, *command.split()],
            cwd=self.folder,
            env={**kept, "PYTHONPATH": str(ROOT), **self.settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_there_and_back(shell: Shell) -> None:
    shell("subscriber add ada@example.org")
    assert "holds the database as of" in shell("backup monday.db")
    shell("subscriber add bob@example.org")
    shell("subscriber remove ada@example.org")
    said = shell("restore monday.db")
    assert "The old database is kept as" in said
    assert "Taken out again, from the journal: 1 unsubscribed." in said
    people = json.loads(shell("subscriber list --json"))
    assert [(one["address"], one["status"]) for one in people] == [
        ("ada@example.org", "unsubscribed")
    ]
    assert {path.name for path in (shell.folder / "var").glob("[!.]*")} >= {MARK, journal.FILE}


def test_json(shell: Shell) -> None:
    shell("migrate")
    made = json.loads(shell("backup monday.db --json"))
    assert made["bytes"] == (shell.folder / "monday.db").stat().st_size
    back = json.loads(shell("restore monday.db --json"))
    assert back["backup_time"] == made["backup_time"]
    assert Path(back["kept"]).is_file()
    again = json.loads(shell(f"restored --backup-time {made['backup_time']} --json"))
    assert again["again"]


def test_nothing_leaves_before_it_is_said(shell: Shell) -> None:
    shell("migrate")
    shell("backup monday.db")
    # Put back by hand: the program is not asked.
    database = shell.folder / "var" / "digest.db"
    database.write_bytes((shell.folder / "monday.db").read_bytes())
    assert "digest restored --backup-time" in shell("plan", code=2)
    said = shell("restored --backup-time 2026-01-01T00:00Z")
    assert "from 2026-01-01 00:00:00Z to" in said
    assert "Planned 0 digests" in shell("plan")


def test_the_journal_of_another_machine(shell: Shell) -> None:
    shell("subscriber add ada@example.org")
    shell("backup monday.db")
    shell("subscriber remove ada@example.org")
    (shell.folder / "var" / journal.FILE).rename(shell.folder / "other.journal")
    told = shell("restore monday.db").partition("run: digest ")[2].replace("FILE", "other.journal")
    said = shell(told)
    assert "settled before" in said
    assert "1 unsubscribed" in said


MISTAKES: dict[str, tuple[str, int, str]] = {
    "no file named": ("backup", 2, "Missing argument 'FILE'"),
    "a file that is there": ("backup there.txt", 2, "there.txt is there already"),
    "a folder that is not": ("backup no/where.db", 2, "There is no folder no"),
    "nothing to put back": ("restore none.db", 2, "There is no file none.db"),
    "no database": ("restore there.txt", 2, "cannot be copied"),
    "no time": ("restored", 2, "Missing option '--backup-time'"),
    "a time that is none": ("restored --backup-time noon", 2, "--backup-time: 'noon' is no time"),
    "a time to come": ("restored --backup-time 2199-01-01T00:00Z", 2, "is to come"),
    "a journal that is not there": (
        "restored --backup-time 2026-01-01T00:00Z --journal x",
        2,
        "The journal x cannot be read",
    ),
}


@pytest.mark.parametrize(("command", "code", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(shell: Shell, command: str, code: int, words: str) -> None:
    (shell.folder / "there.txt").write_text("some text, long enough to be no empty database")
    said = shell(command, code=code)
    assert words in " ".join(said.replace("│", " ").split())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("backup monday.dump", "pg_dump --format=custom --file=monday.dump 'postgresql://"),
        ("restore monday.dump", "pg_restore --clean --if-exists --single-transaction --dbname="),
    ],
)
def test_postgresql_has_its_own_way(shell: Shell, command: str, words: str) -> None:
    shell.settings["DIGEST_DATABASE_URL"] = (
        "postgresql+psycopg://me:secret@nowhere/digest?a=b&c=d&sslpassword=secret"
    )
    said = shell(command, code=2)
    assert words in said
    assert "me@nowhere/digest?a=b&c=d" in said
    assert "secret" not in said


def test_a_database_in_use_is_left_alone(shell: Shell) -> None:
    shell("migrate")
    shell("backup monday.db")
    engine = open_database(f"sqlite:///{shell.folder}/var/digest.db")
    with engine.connect():
        assert "Stop the service" in shell("restore monday.db", code=1)
    engine.dispose()
