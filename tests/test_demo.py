"""The demo: whatever the hour and weekday, everybody gets a digest, and nothing leaves."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from digest.cli import demo
from digest.inbox import keys, read
from digest.sample import SUBSCRIBERS
from tests.replay import Replay

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(MONDAY + timedelta(minutes=1), id="Monday, a minute after midnight"),
        pytest.param(MONDAY + timedelta(days=2, hours=12), id="Wednesday noon"),
        pytest.param(MONDAY + timedelta(days=4, hours=23, minutes=59), id="Friday, late"),
        pytest.param(MONDAY + timedelta(days=5, hours=7), id="Saturday"),
        pytest.param(MONDAY + timedelta(days=6, hours=23), id="Sunday, late"),
        pytest.param(datetime(2026, 3, 29, 1, 30, tzinfo=UTC), id="while the clocks change"),
    ],
)
def test_everybody_gets_a_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], now: datetime
) -> None:
    folder = tmp_path / "demo"
    code = demo.run_demo(
        serve=False, folder=folder, clock=lambda: now, reachable=lambda urls: set()
    )
    said = capsys.readouterr().out
    assert code == 0, said
    mails = [read(folder / "inbox", key) for key in keys(folder / "inbox")]
    assert len(mails) == len(SUBSCRIBERS)
    for person in SUBSCRIBERS:
        assert person.address in said
    for mail in mails:
        assert "invented" in mail.text
        assert "invented" in mail.html
        hosts = set(re.findall(r"https?://([^/:\s\"<>]+)", mail.text + mail.html))
        assert hosts <= {"127.0.0.1", "papers.example.org", "code.example.org", "www.w3.org"}
    assert "DIGEST_SMTP_HOST" in said


def test_it_begins_anew_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        demo.run_demo(serve=False, folder=tmp_path / "demo", reachable=lambda urls: set())
    assert len(keys(tmp_path / "demo" / "inbox")) == len(SUBSCRIBERS)


def test_it_reads_no_settings_of_the_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGEST_SMTP_HOST", "mail.example.com")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("DIGEST_SMTP_HOST=mail.example.com\nDIGEST_NONSENSE=1\n")
    assert demo.run_demo(serve=False, folder=tmp_path / "d", reachable=lambda urls: set()) == 0


def test_what_answers_is_told_from_what_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        urls = {
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}/",
            "closed": f"http://127.0.0.1:{closed.getsockname()[1]}/",
        }
        assert demo.find_reachable(urls) == set()


def test_a_provider_that_answers_is_read(replay: Replay) -> None:
    assert demo.find_reachable({"huggingface": replay.url}) == {"huggingface"}
