"""Workers on PostgreSQL: jobs that several share, that die, are told to end, or come twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, make_url, select, text, update

from digest import schema
from digest.engine.jobs import QUEUES, Deferring, deferrer, job
from digest.engine.worker import HARD, Worker
from digest.models import Fetch, Health, State
from digest.pipeline.readiness import Pulse
from digest.services import Services, build
from digest.settings import load
from digest.storage import house, sources
from digest.storage.database import open_database, reading, writing
from digest.storage.papers import Stored
from digest.storage.queue import serving
from tests.databases import forwarding, hanging, new_database
from tests.post_office import PostOffice, address_of
from tests.running import DIGEST, SCHEDULER, answers, environment, free_port, running, wait_until
from tests.sink import Sink

pytestmark = pytest.mark.long

SENDING = ["worker", "--queues=deliver,upkeep"]


@dataclass
class Works:
    """A post office on PostgreSQL, and the programs that work for it."""

    office: PostOffice
    folder: Path
    env: dict[str, str]
    running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def engine(self) -> Engine:
        return self.office.engine

    @property
    def services(self) -> Services:
        return build(load(self.env, None))

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start a worker; `settings` are added to those of all."""
        more = {f"DIGEST_{name}": value for name, value in settings.items()}
        return self._run([*DIGEST, *(arguments or SENDING)], more)

    def start_scheduler(self) -> subprocess.Popen[str]:
        return self._run(SCHEDULER, {})

    def _run(self, command: list[str], more: dict[str, str]) -> subprocess.Popen[str]:
        return self.running.enter_context(running(self.folder, self.env | more, command))

    def ask(self, name: str) -> None:
        """Defer a job, as a clock would."""
        services = self.services
        with deferrer(services) as app:
            job(app, name).defer()
        services.engine.dispose()

    def plan(self, people: int) -> None:
        """So many people have a digest that is due."""
        self.office.move_in(people)
        self.office.plan(due=self.office.now - timedelta(hours=1))

    def jobs(self) -> list[tuple[str, str]]:
        """The jobs that wait or are done now, as (name, status)."""
        with reading(self.engine) as connection:
            found = connection.execute(
                text("SELECT task_name, status FROM procrastinate_jobs ORDER BY task_name, status")
            )
            return [(name, status) for name, status in found]

    def workers(self) -> list[int]:
        """The process ids of those that ever sent."""
        with reading(self.engine) as connection:
            return list(connection.execute(select(schema.worker.c.pid).distinct()).scalars())

    def held_by(self, process: subprocess.Popen[str]) -> int:
        """How many rows a worker is sending now."""
        return sum(
            row["state"] == State.SENDING and row["worker_id"] in self._ids_of(process.pid)
            for row in self.office.rows()
        )

    def _ids_of(self, pid: int) -> set[int]:
        table = schema.worker
        with reading(self.engine) as connection:
            return set(connection.execute(select(table.c.id).where(table.c.pid == pid)).scalars())

    def is_over(self) -> bool:
        """Whether nothing waits any more."""
        return not self.office.states().keys() & {
            State.PLANNED,
            State.CLAIMED,
            State.SENDING,
            State.DEFERRED,
        }


@pytest.fixture
def works(postgres_url: str, sink: Sink, tmp_path: Path) -> Iterator[Works]:
    url = new_database(postgres_url)
    engine = open_database(url)
    env = environment(
        tmp_path,
        DATABASE_URL=make_url(url).render_as_string(hide_password=False),
        BASE_URL="https://digest.example.org",
        ALLOW_UNSAFE_DATABASE="true",
        MX_LOOKUPS="false",
        SECRET_KEY="kq3ZxT8mW1rYp5uB7nC9vE2dF4gH6jL0",
        SENDER_ADDRESS="digest@example.org",
        SMTP_HOST=sink.host,
        SMTP_PORT=str(sink.port),
        SMTP_TLS="none",
        SOURCES="feeds",
        FEEDS="lab=http://127.0.0.1:9/feed",
    )
    found = Works(PostOffice(engine, tmp_path, now=datetime.now(UTC)), tmp_path, env)
    with found.running:
        yield found
    engine.dispose()


def end(process: subprocess.Popen[str], *, code: int = 0) -> str:
    """Tell a program to end and wait for it; what it logged."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == code, log
    assert "Traceback" not in log
    return log


def test_one_dies_in_mid_batch_and_everybody_has_one_mail(works: Works, sink: Sink) -> None:
    works.plan(300)
    sink.on(".", delay=0.2)
    schedulers = [works.start_scheduler() for _ in range(2)]
    workers = [works.start() for _ in range(3)]
    wait_until(lambda: all(one.pid in works.workers() for one in workers))
    wait_until(lambda: works.held_by(workers[0]) > 0)
    workers[0].kill()
    wait_until(works.is_over, seconds=60)
    for process in (*schedulers, *workers[1:]):
        end(process)
    arrived = [mail.recipients for mail in sink.mails]
    assert len(arrived) == len(set(arrived))
    unknown = {row["address"] for row in works.office.rows() if row["state"] == State.UNKNOWN}
    assert len(unknown) <= 4  # DIGEST_SMTP_CONNECTIONS
    assert {(address_of(number),) for number in range(300)} - set(arrived) <= {
        (address,) for address in unknown
    }
    works.office.check()


def test_who_is_long_at_work_calls_the_next(works: Works, sink: Sink) -> None:
    works.plan(200)
    sink.on(".", delay=0.5)
    workers = [works.start(SMTP_CONNECTIONS="3") for _ in range(3)]
    works.ask("deliver")  # once: nobody else asks
    wait_until(lambda: all(one.pid in works.workers() for one in workers))


def test_clocks_ask_once(works: Works) -> None:
    services = works.services
    with deferrer(services) as app, deferrer(services) as other:
        for clock in (Deferring(services, app), Deferring(services, other)):
            for _ in range(2):
                clock.begin()
                clock.collect()
                clock.deliver()
                clock.look_up()
                clock.watch()
                clock.clean_up()
    services.engine.dispose()
    names = ["clean_up", "collect", "deliver", "look_up", "sweep"]
    assert works.jobs() == [(name, "todo") for name in names]


def test_that_no_worker_is_alive_is_told(works: Works) -> None:
    """By the clock itself: nobody else is there to look."""
    works.plan(3)
    services = works.services
    with writing(works.engine) as connection:
        long_ago = services.clock() - timedelta(hours=2)
        for table in (schema.delivery, schema.digest):
            connection.execute(update(table).values(due_at=long_ago))
    with deferrer(services) as app, deferrer(services) as other:
        for clock in (Deferring(services, app), Deferring(services, other)):
            clock.watch()
    services.engine.dispose()
    with reading(works.engine) as connection:
        told = connection.execute(select(schema.alert.c.text)).scalars().all()
    assert [text for text in told if "have not left 60 minutes after they were due: 3" in text]
    assert len(told) == len(set(told))


def test_a_worker_that_does_nothing_knows_how_far_the_database_has_come(works: Works) -> None:
    """Or it would send from an older one, which the machine that raised the mark refuses."""
    worker = works.start()
    with writing(works.engine) as connection:
        reached = house.leap(connection, works.folder / "elsewhere")
    path = works.folder / "data" / house.FILE
    wait_until(lambda: path.exists() and str(reached.mark) in path.read_text())
    end(worker)


def test_the_first_plan_waits_for_the_first_read(works: Works) -> None:
    services = works.services
    with deferrer(services) as app:
        clock = Deferring(services, app)
        clock.begin()
        clock.plan()
        assert works.jobs() == [("collect", "todo")]
        with writing(services.engine) as connection:
            fetch = Fetch(source="feed:lab", health=Health.FAILED)
            sources.remember(connection, fetch, Stored(), started_at=services.clock(), seconds=1)
        clock.plan()
        assert works.jobs() == [("collect", "todo"), ("plan", "todo")]
    services.engine.dispose()


def test_one_plan_calls_the_next(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digest.engine.worker._PLANS", 1)
    works.office.move_in(3)  # whose slots of today are due
    works.ask("plan")

    def planned() -> int:
        with reading(works.engine) as connection:
            found = connection.execute(select(schema.digest.c.subscriber_id).distinct())
            return len(found.all())

    async def work_until_planned() -> None:
        worker = asyncio.create_task(Worker(services, [], ["plan"], Pulse({})).run())
        await asyncio.to_thread(wait_until, lambda: planned() == 3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert not await worker

    services = works.services
    asyncio.run(asyncio.wait_for(work_until_planned(), 60))
    services.engine.dispose()


def test_a_signal_lets_what_is_under_way_end(works: Works, sink: Sink) -> None:
    works.plan(200)
    sink.on(".", delay=0.5)
    worker = works.start()
    works.ask("deliver")
    wait_until(lambda: works.held_by(worker) > 0)
    assert "finished first" in end(worker)
    states = works.office.states()
    assert states.keys() == {State.SENT, State.PLANNED}
    assert states[State.SENT] == len(sink.mails)
    # Somebody else is to go on.
    assert works.jobs() == [("deliver", "todo")]


def test_a_second_signal_ends_at_once(works: Works, sink: Sink) -> None:
    works.plan(10)
    sink.on(".", delay=60)
    worker = works.start()
    works.ask("deliver")
    wait_until(lambda: works.held_by(worker) > 0)
    worker.send_signal(signal.SIGTERM)
    assert worker.stderr is not None
    assert any("finished first" in line for line in worker.stderr)
    time.sleep(0.5)  # then it is another signal, not the echo of one
    end(worker, code=4)
    states = works.office.states()
    assert 1 <= states[State.UNKNOWN] <= 4
    assert states.keys() == {State.UNKNOWN, State.PLANNED}


def test_a_second_signal_ends_it_while_the_database_hangs(works: Works, sink: Sink) -> None:
    works.plan(10)
    sink.on(".", delay=60)
    worker = works.start()
    works.ask("deliver")
    wait_until(lambda: works.held_by(worker) > 0)
    with hanging(works.env["DIGEST_DATABASE_URL"]):
        worker.send_signal(signal.SIGTERM)
        assert worker.stderr is not None
        assert any("finished first" in line for line in worker.stderr)
        time.sleep(0.5)  # then it is another signal, not the echo of one
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == HARD


def test_it_ends_soon_while_the_database_is_away(works: Works) -> None:
    with forwarding(works.env["DIGEST_DATABASE_URL"]) as (url, cut):
        port = free_port()
        worker = works.start(DATABASE_URL=url, PROBE_PORT=str(port))
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        wait_until(lambda: len(registered(works)) == 2)
        cut()
        worker.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, log = worker.communicate(timeout=60)
        assert time.monotonic() - began < 20
        assert worker.returncode == 0, log
        assert "Traceback" not in log


def test_the_job_of_one_that_died_is_forgotten(works: Works) -> None:
    with writing(works.engine) as connection:
        connection.execute(
            text(
                "WITH dead AS (INSERT INTO procrastinate_workers (last_heartbeat)"
                " VALUES (now() - interval '1 hour') RETURNING id)"
                " INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id)"
                " SELECT 'deliver', 'deliver', 'doing', id FROM dead"
            )
        )
    works.start()
    works.ask("sweep")
    wait_until(lambda: works.jobs() == [])


def test_a_lost_connection_to_the_database_is_made_anew(works: Works, sink: Sink) -> None:
    worker = works.start()
    works.ask("look_up")
    wait_until(lambda: works.jobs() == [])
    works.engine.dispose()
    with works.engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    works.plan(1)
    works.ask("deliver")
    wait_until(lambda: len(sink.mails) == 1)
    end(worker)


def test_what_a_person_can_mend_is_a_sentence(works: Works) -> None:
    works.plan(1)
    with writing(works.engine) as connection:
        reached = house.leap(connection, works.folder / "data")
    house.remember(works.folder / "data", reached)
    with writing(works.engine) as connection:
        connection.execute(text("UPDATE house SET mark = 0"))  # as an old backup has it
    worker = works.start()
    works.ask("deliver")
    wait_until(lambda: works.jobs() == [])
    assert "digest restored" in end(worker)
    assert works.office.states() == {State.PLANNED: 1}


def test_processes_that_are_looked_after(works: Works) -> None:
    port = free_port()
    crew = works.start("worker", "--processes=2", PROBE_PORT=str(port))
    for one in (port, port + 1):
        wait_until(lambda one=one: answers(f"http://127.0.0.1:{one}/readyz"))  # type: ignore[misc]
    wait_until(lambda: len(registered(works)) == 2 * len(QUEUES))
    assert in_service(works) == 2
    end(crew)
    assert registered(works) == []


@pytest.mark.parametrize("way", ["to all", "to the first, killed then", "twice"])
def test_a_signal_to_those_that_are_looked_after(works: Works, sink: Sink, way: str) -> None:
    works.plan(100)
    sink.on(".", delay=60 if way == "twice" else 0.5)
    crew = works.start(*SENDING, "--processes=2")
    works.ask("deliver")
    wait_until(lambda: len(sink.arrived) > 4)
    children = psutil.Process(crew.pid).children()
    for child in children if way == "to all" else []:  # as systemd does for a control group
        child.terminate()
    crew.terminate()
    time.sleep(0.5)  # then it is another signal, not the echo of one
    if way == "twice":
        crew.terminate()
    elif way == "to the first, killed then":
        crew.kill()
    code = {"to all": 0, "twice": 4}.get(way, -signal.SIGKILL)
    assert crew.wait(30) == code
    assert len(psutil.wait_procs(children, timeout=20)[0]) == 2
    states = works.office.states()
    if way == "twice":
        assert states.keys() == {State.UNKNOWN, State.PLANNED}
    else:
        assert states.keys() == {State.SENT, State.PLANNED}
        assert states[State.SENT] == len(sink.mails) == len(sink.arrived)


def test_those_that_start_are_told_too(works: Works) -> None:
    crew = works.start("worker", "--processes=2")
    wait_until(lambda: len(psutil.Process(crew.pid).children()) == 2)
    for child in psutil.Process(crew.pid).children():
        child.terminate()
    end(crew)


def test_a_worker_that_is_stopped_is_not_counted(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digest.storage.queue.SILENT", 12)
    assert in_service(works) == 0
    stopped, _ = works.start(), works.start()
    wait_until(lambda: in_service(works) == 2)
    stopped.send_signal(signal.SIGSTOP)
    wait_until(lambda: in_service(works) == 1)
    shown = subprocess.run(
        [*DIGEST, "status"],
        cwd=works.folder,
        env=works.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"^Workers: [12]\.$", shown.stdout, re.MULTILINE)
    stopped.send_signal(signal.SIGCONT)
    wait_until(lambda: in_service(works) == 2)


def test_one_of_them_ends_and_so_do_all(works: Works) -> None:
    crew = works.start("worker", "--processes=2")
    wait_until(lambda: len(registered(works)) == 2 * len(QUEUES))
    children = Path(f"/proc/{crew.pid}/task/{crew.pid}/children")
    if not children.exists():
        pytest.skip("this system does not tell whose child a process is")
    first, _ = children.read_text().split()
    subprocess.run(["kill", "-KILL", first], check=True)
    assert crew.wait(60) == 1


def in_service(works: Works) -> int | None:
    """How many processes take jobs now."""
    with reading(works.engine) as connection:
        return serving(connection)


def registered(works: Works) -> list[int]:
    """The queues that are served now."""
    with reading(works.engine) as connection:
        return list(connection.execute(text("SELECT id FROM procrastinate_workers")).scalars())


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        pytest.param([], {"DATABASE_URL": ""}, "python scheduler.py", id="SQLite"),
        pytest.param(["--queues=deliver,pln"], {}, "there is no pln", id="no such queue"),
        pytest.param(["--queues=,"], {}, "it names none", id="no queue"),
    ],
)
def test_a_mistake_is_a_sentence(
    works: Works, arguments: list[str], settings: dict[str, str], words: str
) -> None:
    worker = works.start("worker", *arguments, **settings)
    _, told = worker.communicate(timeout=60)
    assert worker.returncode == 2
    assert words in told
    assert "Traceback" not in told


@pytest.mark.parametrize("missing", ["psycopg", "procrastinate"])
def test_without_the_extra_it_says_what_to_install(
    works: Works, missing: str, tmp_path: Path
) -> None:
    blocked = (
        "import importlib.util as u, sys; find = u.find_spec;"
        f" u.find_spec = lambda name, *more: None if name == {missing!r} else find(name, *more);"
        f" sys.modules[{missing!r}] = None;"
        " from digest.cli import main; main()"
    )
    commands = ["worker"] if missing == "procrastinate" else ["worker", "status"]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-c", blocked, command],
            cwd=tmp_path,
            env=works.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert "pip install 'paper-digest[postgres]'" in done.stderr
        assert done.stderr.count("\n") == 1
