"""What is counted, and the page on which Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine

from digest import metrics, schema
from digest.models import State
from digest.pipeline.reporting import Report, report
from digest.storage.database import clock, reading
from digest.web.exposition import PROVIDERS, page
from digest.web.questions import Seldom
from tests.rows import DAY, HOUR, MINUTE, NOW, Rows


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    metrics.take()
    yield
    metrics.take()


def read(text: bytes) -> dict[tuple[str, ...], float]:
    """The samples of a page by name and labels' values, these in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_messages_and_refusals_by_relay() -> None:
    metrics.observe_many("one", [0.001, 0.0011, 0.3, 601])
    metrics.observe_many("two", [2])
    for code in (450, 451, 421, 550, None):
        metrics.refused("one", code)
    found = read(page(None)())
    buckets = {
        key[1]: value
        for key, value in found.items()
        if key[0] == "digest_send_seconds_bucket" and key[2] == "one"
    }
    assert list(buckets.values()) == sorted(buckets.values())
    assert [buckets[bound] for bound in ("0.001", "0.0025", "0.25", "0.5", "600.0", "+Inf")] == [
        *(1, 2, 2, 3, 3, 4)
    ]
    assert found["digest_send_seconds_count", "one"] == 4
    assert found["digest_send_seconds_sum", "one"] == pytest.approx(601.3021)
    assert found["digest_send_seconds_count", "two"] == 1
    errors = {
        key[1]: value for key, value in found.items() if key[0] == "digest_relay_errors_total"
    }
    assert errors == {"4xx": 2, "421": 1, "5xx": 1, "connection": 1}
    assert found["process_cpu_seconds_total",] > 0


def test_what_a_child_counted_is_taken_once_and_added() -> None:
    metrics.observe_many("one", [0.3])
    metrics.refused("one", 450)
    taken = metrics.take()
    assert metrics.seen() == metrics.Counts()
    metrics.observe_many("one", [0.3, 7])
    metrics.add(taken)
    seen = metrics.seen()
    assert sum(seen.accepted["one"].buckets) == 3
    assert seen.accepted["one"].seconds == pytest.approx(7.6)
    assert seen.errors == {("one", "4xx"): 1}


def test_what_the_database_knows(rows: Rows) -> None:
    reader = rows.subscriber(hour=11)
    rows.subscriber(hour=10)
    rows.digest(NOW - HOUR, State.PLANNED, subscriber_id=reader, provider="one.example")
    rows.digest(NOW - 3 * DAY, State.UNKNOWN)
    rows.account_mail(NOW - HOUR, State.SENT)
    rows.route("two.example", state="open", reason="blocked")
    with reading(rows.engine) as connection:
        now = clock(connection)
    for silent in (0, 3600):
        beat = now - timedelta(seconds=silent)
        rows.add(schema.worker, host="h", pid=1, started_at=beat, heartbeat_at=beat)
    rows.add(schema.alert, kind="late", subject="", text="", since=NOW)
    rows.read("arxiv", NOW - 5 * MINUTE)
    rows.read("arxiv", NOW - 2 * MINUTE, good=False)
    rows.read("huggingface", NOW - MINUTE, good=False)
    sources = ("arxiv", "huggingface", "feed:new")
    found = read(page(lambda: report(rows.engine, sources, now=NOW, span=DAY))())
    expected = {
        ("digest_database_up",): 1,
        ("digest_due",): 3,
        ("digest_missing",): 2,
        ("digest_overdue",): 1,
        ("digest_unresolved",): 1,
        ("digest_deliveries", "planned"): 1,
        ("digest_deliveries", "sent"): 0,
        ("digest_account_mails", "sent"): 1,
        ("digest_queue_rows", "one.example"): 1,
        ("digest_queue_age_seconds",): 3600,
        ("digest_breaker_open", "two.example", "smtp.example.org"): 1,
        ("digest_alerts", "late"): 1,
        ("digest_delivering",): 1,
        ("digest_workers",): 0 if rows.engine.name == "postgresql" else None,
        ("digest_source_healthy", "arxiv"): 0,
        ("digest_source_healthy", "huggingface"): 0,
        ("digest_source_age_seconds", "arxiv"): 300,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert ("digest_source_age_seconds", "huggingface") not in found
    assert not [key for key in found if "@" in "".join(key)]


def test_many_providers_are_few_lines(rows: Rows) -> None:
    for number in range(PROVIDERS + 3):
        rows.digest(NOW - HOUR, State.PLANNED, provider=f"{number}.example")
    rows.digest(NOW - HOUR, State.PLANNED, provider="0.example")
    found = read(page(lambda: report(rows.engine, (), now=NOW, span=DAY))())
    queues = {key[1]: value for key, value in found.items() if key[0] == "digest_queue_rows"}
    assert len(queues) == PROVIDERS + 1
    assert (queues["0.example"], queues["other"]) == (2, 3)


def test_a_database_that_is_down_is_a_metric(engine: Engine) -> None:
    gone = create_engine("sqlite:////no/such/folder/digest.db")
    metrics.refused("one", None)
    found = read(page(lambda: report(gone, (), now=NOW, span=DAY))())
    assert found["digest_database_up",] == 0
    assert found["digest_relay_errors_total", "connection", "one"] == 1
    gone.dispose()


def test_a_costly_question_is_asked_seldom() -> None:
    asked: list[float] = []
    time, takes = 0.0, 0.5

    def ask() -> float:
        nonlocal time
        asked.append(time)
        time += takes
        return asked[-1]

    seldom = Seldom(ask, clock=lambda: time)
    assert [seldom(), seldom()] == [0, 0]
    time += 9.9
    assert seldom() == 0
    time, takes = 10.5, 3
    assert seldom() == 10.5
    time += 29.9
    assert seldom() == 10.5
    time += 0.2
    assert seldom() > 10.5
    assert len(asked) == 3


def test_registering_asks_nothing() -> None:
    def ask() -> Report:
        raise AssertionError("nobody looks yet")

    page(ask)
