"""`digest deliver`, in one process and with --processes N, as it is really run and ended."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, create_engine, func, select, update
from sqlalchemy.exc import OperationalError

from digest import schema
from digest.models import State
from digest.storage import house
from digest.storage.database import reading, writing
from tests.post_office import HELD, PostOffice, address_of
from tests.running import DIGEST, environment, running, wait_until
from tests.sink import Sink

pytestmark = pytest.mark.long

PEOPLE, CONNECTIONS = 150, 6
ALONE = [*DIGEST, "deliver"]
DELIVER = [*ALONE, "--processes", "3"]


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


@contextmanager
def leading(
    tmp_path: Path, env: dict[str, str], command: list[str]
) -> Iterator[subprocess.Popen[str]]:
    """The command as the leader of a process group, as a terminal and systemd start it."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


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
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "1 of 3 sending processes died" in errors
    sink.on(".")
    deliver_the_rest(tmp_path, env, office)
    assert_nothing_lost_or_twice(office, sink, unknown=CONNECTIONS)


def test_when_the_first_dies_all_end(
    office: PostOffice, sink: Sink, env: dict[str, str], tmp_path: Path
) -> None:
    sink.on(".", delay=0.2)
    with running(tmp_path, env, DELIVER) as process:
        wait_until(lambda: len(sink.arrived) > 30)
        found = senders(process)
        process.kill()
        psutil.wait_procs(found, timeout=20)
        assert not any(sender.is_running() for sender in found)
    if office.engine.name == "postgresql":  # each keeps its own books, and ends in peace
        states = office.states()
        assert states.keys() == {State.SENT, State.PLANNED}
        assert states[State.SENT] == len(sink.mails) == len(sink.arrived)
    sink.on(".")
    deliver_the_rest(tmp_path, env, office)
    assert_nothing_lost_or_twice(office, sink, unknown=3 * CONNECTIONS)


# ------------------------------------------------------------------ signals

LATER = 0.5  # seconds: then it is another signal, not the echo of one


@pytest.mark.parametrize("command", [ALONE, DELIVER], ids=["alone", "several"])
@pytest.mark.parametrize(("signals", "code"), [(1, 3), (2, 4)])
def test_a_signal_drains_and_a_second_one_cuts_off(
    office: PostOffice,
    sink: Sink,
    env: dict[str, str],
    tmp_path: Path,
    *,
    command: list[str],
    signals: int,
    code: int,
) -> None:
    sink.on(".", delay=0.5 if signals == 1 else 30)
    with running(tmp_path, env, command) as process:
        wait_until(lambda: len(sink.arrived) >= CONNECTIONS)
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(LATER)
        assert process.wait(20) == code
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


@pytest.mark.parametrize("who", ["a terminal", "systemd", "timeout"])
def test_a_signal_to_all_of_them_is_one(
    office: PostOffice, sink: Sink, env: dict[str, str], tmp_path: Path, *, who: str
) -> None:
    sink.on(".", delay=0.5)
    # What it is told it tells its child, and then the group that its child is in as well.
    timeout = [shutil.which("timeout") or "timeout", "--preserve-status", "600"]
    command = [*timeout, *DELIVER] if who == "timeout" else DELIVER
    with leading(tmp_path, env, command) as process:
        wait_until(lambda: len(sink.arrived) >= CONNECTIONS)
        if who == "a terminal":
            os.killpg(process.pid, signal.SIGINT)
        elif who == "timeout":
            process.send_signal(signal.SIGTERM)
        else:
            first = psutil.Process(process.pid)
            for one in [*first.children(recursive=True), first]:
                one.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    states = office.states()
    assert states.keys() == {State.SENT, State.PLANNED}
    assert states[State.SENT] == len(sink.mails) == len(sink.arrived)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_they_start(
    office: PostOffice, sink: Sink, env: dict[str, str], tmp_path: Path, *, number: signal.Signals
) -> None:
    with leading(tmp_path, env, DELIVER) as process:
        wait_until(lambda: len(senders(process)) > 0)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert office.states() == {State.PLANNED: PEOPLE}
    assert not sink.arrived


@pytest.mark.parametrize("command", [ALONE, DELIVER], ids=["alone", "several"])
def test_what_does_not_end_in_time_is_cut_off(
    office: PostOffice, sink: Sink, env: dict[str, str], tmp_path: Path, *, command: list[str]
) -> None:
    sink.on(".", delay=30)
    with running(tmp_path, env | {"DIGEST_DRAIN_SECONDS": "2"}, command) as process:
        wait_until(lambda: len(sink.arrived) >= CONNECTIONS)
        process.send_signal(signal.SIGTERM)
        since = time.monotonic()
        _, errors = process.communicate(timeout=28)  # before there is an answer
        assert time.monotonic() - since >= 2
    assert process.returncode == 4, errors
    states = office.states()
    assert states.keys() == {State.UNKNOWN, State.PLANNED}
    assert states[State.UNKNOWN] <= 3 * CONNECTIONS


# ------------------------------------------------------------------ exit codes


@pytest.mark.parametrize("command", [ALONE, DELIVER], ids=["alone", "several"])
@pytest.mark.parametrize(("answer", "code"), [("", 0), ("550 5.7.1 No", 1), ("451 4.7.1 Later", 1)])
def test_whether_all_went_well(
    office: PostOffice,
    sink: Sink,
    env: dict[str, str],
    tmp_path: Path,
    *,
    command: list[str],
    answer: str,
    code: int,
) -> None:
    sink.on("RCPT", answer, times=1)
    done = subprocess.run(
        command, cwd=tmp_path, env=env, check=False, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [ALONE, DELIVER], ids=["alone", "several"])
def test_what_a_person_can_mend_is_a_sentence(
    office: PostOffice, sink: Sink, env: dict[str, str], tmp_path: Path, *, command: list[str]
) -> None:
    with writing(office.engine) as connection:
        reached = house.leap(connection, tmp_path / "data")
    house.remember(tmp_path / "data", reached)
    with writing(office.engine) as connection:
        connection.execute(update(schema.house).values(mark=0))  # as an old backup has it
    done = subprocess.run(
        command, cwd=tmp_path, env=env, check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("The database")
    assert "Run: digest restored" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not sink.arrived


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://nobody@127.0.0.1:9/none", "sqlite:////proc/nowhere/digest.db"]
)
def test_what_a_database_says_can_be_told_by_another_process(url: str) -> None:
    with pytest.raises(OperationalError) as raised:
        create_engine(url).connect()
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
