"""The service as it is really run: a process that is started, works, and is told to end."""

from __future__ import annotations

import contextlib
import email
import email.policy
import mailbox
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from apscheduler.triggers.cron import CronTrigger

import scheduler
from digest.errors import SettingsError
from digest.models import State
from digest.services import build
from digest.settings import load
from digest.storage.database import open_database
from digest.storage.migrating import upgrade
from tests.house import KEY
from tests.post_office import PostOffice
from tests.running import (
    DIGEST,
    ROOT,
    SCHEDULER,
    answers,
    environment,
    feed,
    free_port,
    running,
    serving_feed,
    wait_until,
)
from tests.sink import Sink


def test_it_collects_plans_delivers_serves_and_ends(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    port = free_port()
    with serving_feed(feed(now)) as url:
        env = environment(
            tmp_path,
            BASE_URL=f"http://127.0.0.1:{port}",
            WEB_PORT=str(port),
            SOURCES="feeds",
            FEEDS=f"lab={url}",
            DELIVER_INTERVAL="0.5",
        )
        hour = f"--hour={now.hour}"
        subprocess.run(
            [*DIGEST, "subscriber", "add", "ada@example.org", hour, "--timezone=UTC"],
            cwd=tmp_path,
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        make_due(tmp_path / "data" / "digest.db", hours=1)
        inbox = tmp_path / "data" / "inbox"
        with running(tmp_path, env) as process:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
            wait_until(lambda: inbox.is_dir() and len(mailbox.Maildir(inbox, create=False)) == 1)
            assert answers(f"http://127.0.0.1:{port}/inbox/")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            assert process.stderr is not None
            log = process.stderr.read()
    [raw] = [bytes(mail) for mail in mailbox.Maildir(inbox, create=False)]
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["To"] == "ada@example.org"
    assert "Something new in the laboratory" in str(mail["Subject"])
    assert "ada@example.org" not in log
    assert not re.search(r"/(u|settings)/[\w-]{20}", log)
    assert "Traceback" not in log


def make_due(database: Path, *, hours: int) -> None:
    """Let the only subscriber have come some hours ago, so that this hour's slot is theirs."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE schedule SET since = datetime(since, ?)", (f"-{hours} hours",))
        connection.execute("UPDATE subscriber SET next_due_at = datetime('now', '-1 hours')")
        connection.commit()


def test_it_ends_at_once_while_a_source_keeps_it_waiting(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent:
        env = environment(
            tmp_path,
            BASE_URL=f"http://127.0.0.1:{port}",
            WEB_PORT=str(port),
            SOURCES="feeds",
            FEEDS=f"lab=http://127.0.0.1:{silent.getsockname()[1]}/feed",
            FETCH_TIMEOUT="120",
        )
        with running(tmp_path, env) as process:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/healthz"))
            connection, _ = silent.accept()
            with connection:  # it is asking now, and gets no answer
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=15) == 0


@pytest.mark.parametrize(
    ("signals", "drain", "code"), [(1, 60, 0), (1, 2, 4), (2, 60, 4)], ids=["ends", "late", "twice"]
)
def test_how_the_mail_under_way_ended_is_its_exit_code(
    tmp_path: Path, sqlite_url: str, sink: Sink, *, signals: int, drain: int, code: int
) -> None:
    office = PostOffice(open_database(sqlite_url), tmp_path, now=datetime.now(UTC))
    upgrade(office.engine)
    office.move_in(20)
    office.plan(due=office.now - timedelta(minutes=1))
    sink.on(".", delay=1 if code == 0 else 30)
    env = environment(
        tmp_path,
        DATABASE_URL=sqlite_url,
        BASE_URL="https://digest.example.org",
        WEB_PORT=str(free_port()),
        SECRET_KEY=KEY,
        SENDER_ADDRESS="digest@example.org",
        SMTP_HOST=sink.host,
        SMTP_PORT=str(sink.port),
        SMTP_TLS="none",
        SMTP_CONNECTIONS="4",
        MX_LOOKUPS="false",
        SOURCES="feeds",
        FEEDS="lab=http://127.0.0.1:9/feed",
        DELIVER_INTERVAL="0.5",
        DRAIN_SECONDS=str(drain),
    )
    with running(tmp_path, env) as process:
        wait_until(lambda: len(sink.arrived) >= 4)
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)  # then it is another signal, not the echo of one
        _, log = process.communicate(timeout=20)
    assert process.returncode == code, log
    assert "Traceback" not in log
    states = office.states()
    if code == 0:
        assert states.keys() == {State.SENT, State.PLANNED}
        assert states[State.SENT] == len(sink.mails)
    else:
        assert states == {State.UNKNOWN: 4, State.PLANNED: 16}
    office.engine.dispose()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"SMTP_HOTS": "x"}, "DIGEST_SMTP_HOST", id="a typo"),
        pytest.param(
            {"BASE_URL": "https://digest.example.org"}, "DIGEST_SMTP_HOST", id="no server"
        ),
        pytest.param({"COLLECT_CRON": "61 * * * *"}, "DIGEST_COLLECT_CRON", id="no such minute"),
        pytest.param(
            {"DATABASE_URL": "sqlite:////proc/nowhere/x.db"}, "DIGEST_DATABASE_URL", id="db"
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    done = subprocess.run(
        SCHEDULER,
        cwd=tmp_path,
        env=environment(tmp_path, **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_outside_of_its_environment_it_says_what_to_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "scheduler.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert ".venv/bin/python scheduler.py" in done.stderr


@pytest.mark.parametrize(
    ("fields", "day"),
    [("0 8 * * 0", 6), ("0 8 * * 7", 6), ("0 8 * * 1", 0), ("0 8 * * fri", 4)],
)
def test_days_of_the_week_are_those_of_cron(fields: str, day: int) -> None:
    trigger: CronTrigger = scheduler._cron(fields)
    found = trigger.get_next_fire_time(None, datetime(2026, 5, 28, tzinfo=UTC))
    assert found.weekday() == day


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("1-5/2", "mon,wed,fri"),
        ("0-3", "sun,mon,tue,wed"),
        ("*/2", "sun,tue,thu,sat"),
        ("6,7", "sat,sun"),
        ("mon-fri", "mon-fri"),
    ],
)
def test_fields_of_days(field: str, names: str) -> None:
    assert scheduler._weekdays(field) == names


@pytest.mark.parametrize("field", ["1-5x", "8", "5-1", "1//2", ""])
def test_no_days(field: str) -> None:
    with pytest.raises(SettingsError, match="DIGEST_COLLECT_CRON"):
        scheduler._cron(f"0 8 * * {field or '1-'}")


def test_working_days_of_cron() -> None:
    trigger: CronTrigger = scheduler._cron("0 8 * * 1-5")
    found, days = datetime(2026, 5, 28, tzinfo=UTC), []
    for _ in range(5):
        found = trigger.get_next_fire_time(None, found + timedelta(hours=1))
        days.append(found.weekday())
    assert sorted(days) == [0, 1, 2, 3, 4]


def test_no_cron_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match="DIGEST_COLLECT_CRON"):
        scheduler._cron("61 * * * *")


def test_a_failing_first_read_does_not_keep_planning_waiting(tmp_path: Path) -> None:
    class Broken:
        settings = load(
            {"DIGEST_DATA_DIR": str(tmp_path), "DIGEST_WEB_PORT": str(free_port())}, None
        )
        stopping = threading.Event()
        planned = threading.Event()

        def __init__(self) -> None:
            self.real = build(self.settings)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def collect(self) -> None:
            raise OSError("the disk is full")

        def plan_due(self) -> None:
            self.planned.set()

    services, stopped, never = Broken(), threading.Event(), threading.Event()
    with patch.object(scheduler, "PLAN_SECONDS", 0.2):
        thread = threading.Thread(target=scheduler.run, args=(services, stopped, never))
        thread.start()
        try:
            assert services.planned.wait(20)
        finally:
            stopped.set()
            thread.join()
