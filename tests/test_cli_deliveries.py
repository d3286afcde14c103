"""`digest delivery` as an operator types it: on both databases, with mail that was really lost."""

from __future__ import annotations

import json
import os
import pty
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from digest import cli
from digest.models import State
from tests.post_office import PostOffice, address_of
from tests.sink import Sink

HOUR = timedelta(hours=1)


@dataclass(slots=True)
class Desk:
    """Where the operator of an office sits."""

    office: PostOffice
    sink: Sink
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def lose(self, *people: int) -> list[int]:
        """Mail an hour ago whose answers were lost; the deliveries' ids."""
        self.office.plan(*people, due=self.office.now - HOUR)
        self.sink.on(".", close=True, times=len(people))
        self.office.postman(self.sink.port).deliver()
        return [row["id"] for row in self.office.rows()]

    def run(self, *command: str, code: int = 0) -> tuple[str, str]:
        """What a command prints, and what it complains of."""
        self.monkeypatch.setattr(sys, "argv", ["digest", "delivery", *command])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self.capsys.readouterr()
        assert (ended.value.code or 0, "Traceback" in err) == (code, False), err
        return out, err

    def says(self, *command: str, code: int = 0) -> list[str]:
        """The lines that a command prints, and those of its failure."""
        out, err = self.run(*command, code=code)
        assert bool(err) == bool(code)
        return [*out.splitlines(), *err.splitlines()]

    def states(self) -> list[str]:
        return [row["state"] for row in self.office.rows()]


@pytest.fixture
def desk(
    engine: Engine,
    tmp_path: Path,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    for name in list(os.environ):
        if name.startswith("DIGEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DIGEST_ALLOW_UNSAFE_DATABASE", "true")  # the tests' forgets the disk
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("digest.services.open_database", lambda _url: engine)
    office = PostOffice(engine, tmp_path, now=datetime.now(UTC) - HOUR)
    office.move_in(3)
    return Desk(office, sink, monkeypatch, capsys)


def test_an_unknown_mail_from_the_list_to_the_inbox(desk: Desk) -> None:
    [lost] = desk.lose(desk.office.people[0])
    header, _, row = desk.says("list", "--state", "unknown")
    assert header.split()[:4] == ["Mail", "Due", "State", "Why"]
    assert row.split()[0] == str(lost)
    assert row.split()[3:8] == ["unknown", "no", "answer", "r…@example.org", "example.org"]
    shown = "\n".join(desk.says("show", str(lost)))
    assert f"Mail {lost} to r…@example.org, by example.org: unknown (no answer)\n" in shown
    assert f"127.0.0.1:{desk.sink.port}" in shown
    assert address_of(0) not in shown
    assert desk.says("resend", str(lost)) == [
        "1 mail will be sent again when mail is delivered next.",
        "Whoever is not to be written to by then is skipped.",
    ]
    assert "next attempt" in desk.says("show", str(lost))[2]
    desk.office.now = datetime.now(UTC)
    assert desk.office.postman(desk.sink.port).deliver().states == {State.SENT: 1}
    assert desk.says("list") == [
        "No mail of the last 7 days is unknown or failed or deferred.",
    ]


def test_what_is_left_as_it_was_is_named(desk: Desk) -> None:
    first, second = desk.lose(*desk.office.people[:2])
    assert desk.says("settle", str(first), "--as", "sent") == ["1 mail settled as sent."]
    assert desk.says("settle", str(first), str(second), "--as", "failed", code=1) == [
        "1 mail settled as failed.",
        f"Mail {first}: it is sent, not unknown.",
        "1 mail left as it was.",
    ]
    said = desk.says("resend", str(first), code=1)
    assert said[0] == f"Mail {first}: it is sent, neither unknown nor failed."
    assert desk.states() == ["sent", "failed"]


def test_programs_read_json(desk: Desk) -> None:
    [lost] = desk.lose(desk.office.people[0])

    def read(*command: str, code: int = 0) -> Any:
        out, _ = desk.run(*command, "--json", code=code)
        assert address_of(0) not in out
        return json.loads(out)

    [listed] = read("list")
    assert (listed["id"], listed["state"], listed["kind"]) == (lost, "unknown", "digest")
    shown = read("show", str(lost))
    assert shown["delivery"] == listed
    assert [one["outcome"] for one in shown["attempts"]] == ["unknown"]
    assert read("settle", str(lost), "--as", "failed") == {"moved": [lost], "left": []}
    assert read("resend", "4711", code=1) == {
        "moved": [],
        "left": [{"id": 4711, "reason": "it is not there, or just being moved"}],
    }


def answer(desk: Desk, word: str, *command: str, code: int) -> None:
    """A command on a terminal at which somebody answers."""
    ours, theirs = pty.openpty()
    os.write(ours, f"{word}\n".encode())
    with os.fdopen(theirs) as terminal, desk.monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", terminal)
        _, asked = desk.run(*command, code=code)
    os.close(ours)
    assert "3 unknown mails" in asked


@pytest.mark.parametrize(
    ("command", "state"),
    [
        (["resend", "--all-unknown"], "deferred"),
        (["settle", "--all-unknown", "--as", "sent"], "sent"),
    ],
    ids=["resend", "settle"],
)
def test_all_at_once_is_asked_about(desk: Desk, command: Sequence[str], state: str) -> None:
    desk.lose(*desk.office.people)
    assert desk.says(*command, code=2) == [
        "Nobody is there to be asked. Add --yes if that is what you want."
    ]
    answer(desk, "n", *command, code=1)
    assert desk.states() == ["unknown"] * 3
    answer(desk, "y", *command, code=0)
    assert desk.states() == [state] * 3
    assert desk.says(*command) == ["Nothing is unknown."]


def test_all_at_once_without_a_question(desk: Desk) -> None:
    desk.lose(*desk.office.people)
    assert desk.says("settle", "--all-unknown", "--as=failed", "--yes") == [
        "3 mails settled as failed."
    ]
    assert desk.states() == ["failed"] * 3


MISTAKES = {
    "nothing is named": (["resend"], "Name mails by their numbers, or all with --all-unknown."),
    "all and one": (["resend", "1", "--all-unknown"], "Name mails by their numbers"),
    "no end": (["settle", "1"], "Missing option '--as'"),
    "an end that is none": (["settle", "1", "--as", "unknown"], "'sent', 'failed'"),
    "no mail": (["show", "4711"], "There is no mail 4711. See: digest delivery list"),
    "no number": (["resend", "x"], "valid integer"),
    "a number beyond all": (["show", str(10**30)], "less than or equal"),
    "a state that is no trouble": (["list", "--state", "sent"], "'unknown', 'failed'"),
}


@pytest.mark.parametrize(("command", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(command: Sequence[str], words: str, desk: Desk) -> None:
    desk.monkeypatch.setenv("COLUMNS", "200")
    out, err = desk.run(*command, code=2)
    assert out == ""
    assert words in " ".join(err.split())
