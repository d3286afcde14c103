"""`digest deliver --processes N`: several processes that send, as they are really run."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, func, select

from digest import schema
from digest.models import State
from digest.storage.database import reading
from tests.post_office import HELD, PostOffice, address_of
from tests.running import DIGEST, environment, running, wait_until
from tests.sink import Sink

PEOPLE, CONNECTIONS = 150, 6
DELIVER = [*DIGEST, "deliver", "--processes", "3"]


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> PostOffice:
    found = PostOffice(engine, tmp_path, now=datetime.now(UTC))
    found.move_in(PEOPLE)
    found.plan(due=found.now - timedelta(minutes=1))
    return found


@pytest.fixture
def env(tmp_path: Path, database_url: str, sink: Sink) -> dict[str, str]:
    return environment(
        tmp_path,
        DATABASE_URL=database_url,
        SMTP_HOST=sink.host,
        SMTP_PORT=str(sink.port),
        SMTP_TLS="none",
        SMTP_CONNECTIONS=str(CONNECTIONS),
        SENDER_ADDRESS="digest@example.org",
        MX_LOOKUPS="false",
        ALLOW_UNSAFE_DATABASE="true",  # the tests' PostgreSQL forgets the disk
    )


def got(sink: Sink) -> Counter[str]:
    return Counter(mail.recipients[0] for mail in sink.arrived)


def senders(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a command started to send (Python has one more, which counts them)."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # one that ended meanwhile
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def deliver_the_rest(tmp_path: Path, env: dict[str, str], office: PostOffice) -> None:
    """Until nothing is held; on PostgreSQL a dead worker's lease must run out first."""

    def settled() -> bool:
        subprocess.run([*DIGEST, "deliver"], cwd=tmp_path, env=env, check=False)
        return not set(office.states()) & {*HELD, State.PLANNED, State.DEFERRED}

    wait_until(settled, seconds=60)


def assert_nothing_lost_or_twice(office: PostOffice, sink: Sink, *, unknown: int) -> None:
    arrived, rows = got(sink), office.rows()
    assert max(arrived.values()) == 1
    lost = [row["address"] for row in rows if not arrived[row["address"]]]
    states = office.states()
    assert set(states) <= {State.SENT, State.UNKNOWN}
    assert len(lost) <= states.get(State.UNKNOWN, 0) <= unknown
    office.check()


def test_several_send_what_is_due(
    office: PostOffice, sink: Sink, env: dict[str, str], tmp_path: Path
) -> None:
    sink.on(".", delay=0.2)
    done = subprocess.run(DELIVER, cwd=tmp_path, env=env, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert got(sink) == {address_of(number): 1 for number in range(PEOPLE)}
    with reading(office.engine) as connection:
        assert connection.execute(select(func.count()).select_from(schema.worker)).scalar_one() == 3
    office.check()


def test_one_that_dies_takes_nobody_along(
    office: PostOffice, sink: Sink, env: dict[str, str], tmp_path: Path
) -> None:
    sink.on(".", delay=0.2)
    with running(tmp_path, env, DELIVER) as process:
        wait_until(lambda: len(sink.arrived) > 30)
        senders(process)[0].kill()
        assert process.wait(60) == 1
    sink.on(".")
    deliver_the_rest(tmp_path, env, office)
    assert_nothing_lost_or_twice(office, sink, unknown=CONNECTIONS)


def test_when_the_first_dies_all_end(
    office: PostOffice, sink: Sink, env: dict[str, str], tmp_path: Path
) -> None:
    if office.engine.name == "postgresql":
        pytest.skip("there each sender keeps its own books")
    sink.on(".", delay=0.2)
    with running(tmp_path, env, DELIVER) as process:
        wait_until(lambda: len(sink.arrived) > 30)
        found = senders(process)
        process.kill()
        psutil.wait_procs(found, timeout=20)
        assert not any(sender.is_running() for sender in found)
    sink.on(".")
    deliver_the_rest(tmp_path, env, office)
    assert_nothing_lost_or_twice(office, sink, unknown=3 * CONNECTIONS)


@pytest.mark.parametrize(("signals", "code"), [(1, 3), (2, 4)])
def test_a_signal_drains_and_a_second_one_cuts_off(
    office: PostOffice,
    sink: Sink,
    env: dict[str, str],
    tmp_path: Path,
    *,
    signals: int,
    code: int,
) -> None:
    sink.on(".", delay=0.5 if signals == 1 else 30)
    with running(tmp_path, env, DELIVER) as process:
        wait_until(lambda: len(sink.arrived) > (20 if signals == 1 else 5))
        process.send_signal(signal.SIGTERM)
        if signals == 2:
            time.sleep(1)  # two at once would be one
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == code
    states = office.states()
    assert not set(states) & set(HELD)
    assert states[State.PLANNED] > 0
    if signals == 1:
        assert states[State.SENT] == len(sink.mails) == len(sink.arrived)
    else:
        assert 0 < states[State.UNKNOWN] <= 3 * CONNECTIONS
    sink.on(".")
    deliver_the_rest(tmp_path, env, office)
    assert_nothing_lost_or_twice(office, sink, unknown=3 * CONNECTIONS)
