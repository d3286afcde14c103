"""A process is ready when it can do its own part, whatever is the matter with the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from procrastinate.exceptions import ConnectorException
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from digest.engine import guarded
from digest.errors import Busy, SchemaError
from digest.pipeline.readiness import Pulse, tables


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_the_database_has_its_tables(engine: Engine) -> None:
    assert tables(engine) == []
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    [problem] = tables(engine)
    assert "migrated by a newer one" in problem


@pytest.mark.parametrize(
    "url", ["sqlite:///{}/no/such/folder/digest.db", "postgresql+psycopg://127.0.0.1:1/digest"]
)
def test_a_database_that_does_not_answer_is_a_sentence(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_engine(url.format(tmp_path))
    assert tables(engine) == ["The database does not answer."]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    engine.dispose()


def test_whoever_neglects_a_duty_is_not_ready() -> None:
    time = 1000.0
    pulse = Pulse({"plan": 300, "watch": 60}, clock=lambda: time)
    time += 60
    assert pulse.problems() == []
    pulse.beat("collect")  # no limit is set for it
    time += 240
    assert pulse.problems() == ["Nothing from `watch` for 300 s; the limit is 60 s."]
    pulse.beat("watch")
    time += 1
    assert pulse.problems() == ["Nothing from `plan` for 301 s; the limit is 300 s."]
    pulse.beat("plan")
    assert pulse.problems() == []


@pytest.mark.parametrize(
    ("error", "done"),
    [(None, True), (Busy("another is at it"), True), (SchemaError("no tables"), False)],
)
def test_the_scheduler_has_done_what_succeeded(error: Exception | None, done: bool) -> None:
    time = 0.0
    pulse = Pulse({"plan": 300}, clock=lambda: time)

    def plan() -> None:
        if error:
            raise error

    time = 301
    guarded("plan", plan, pulse)()
    assert (pulse.problems() == []) is done


OUTAGES: dict[str, tuple[Exception, str]] = {
    "of the ledger": (
        OperationalError("SELECT 1", {}, OSError("server closed\n\tThis probably means")),
        "server closed",
    ),
    "of the pool": (PoolTimeout("QueuePool limit"), "QueuePool limit"),
    "of the queues": (caused(ConnectorException(), OSError("pool timeout")), "pool timeout"),
}


@pytest.mark.parametrize(("error", "words"), OUTAGES.values(), ids=OUTAGES)
def test_an_outage_of_the_database_is_a_line(
    error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    def plan() -> None:
        raise error

    pulse = Pulse({"plan": -1})
    assert guarded("plan", plan, pulse)() is None
    [record] = caplog.records
    assert record.getMessage() == f"plan: the database cannot be used now: {words}"
    assert (record.exc_info, vars(record)["action"]) == (None, "plan")
    assert pulse.problems()


@pytest.mark.parametrize(
    "bug", [ValueError("ours"), IntegrityError("INSERT", {}, OSError("not unique"))]
)
def test_a_bug_stays_loud(bug: Exception) -> None:
    def plan() -> None:
        raise bug

    with pytest.raises(type(bug)):
        guarded("plan", plan, Pulse({}))()
