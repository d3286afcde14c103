"""The metrics page: what the database knows, and what this process saw, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from digest import metrics
from digest.pipeline.reporting import Report
from digest.web.questions import Seldom

PROVIDERS = 20  # that have a line of their own; the rest is "other"
ALIVE = 30.0  # seconds of silence after which a worker counts as gone (design: rescue)


def page(report: Callable[[], Report] | None) -> Callable[[], bytes]:
    """What makes the page, with the ledger of the last day in it where a report is given."""
    registry = CollectorRegistry()
    registry.register(_Sending())
    ProcessCollector(registry=registry)
    if report is not None:
        registry.register(_House(Seldom(report)))
    return lambda: generate_latest(registry)


class _Sending(Collector):
    def collect(self) -> Iterator[Metric]:
        seen = metrics.seen()
        seconds = HistogramMetricFamily(
            "digest_send_seconds",
            "From the content of an accepted message to the relay's answer.",
            labels=["relay"],
        )
        for relay, accepted in seen.accepted.items():
            bounds = [*(str(float(bound)) for bound in metrics.BOUNDS), "+Inf"]
            buckets = list(zip(bounds, accumulate(accepted.buckets), strict=True))
            seconds.add_metric([relay], buckets, accepted.seconds)
        yield seconds
        errors = CounterMetricFamily(
            "digest_relay_errors", "Refusals and lost connections.", labels=["relay", "class"]
        )
        for key, number in seen.errors.items():
            errors.add_metric(key, number)
        yield errors


class _House(Collector):
    def __init__(self, report: Callable[[], Report]) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        try:
            report = self._report()
        except (SQLAlchemyError, TimeoutError):
            yield _gauge("digest_database_up", "Whether the database answers.", 0)
            return
        yield _gauge("digest_database_up", "Whether the database answers.", 1)
        yield from _ledger(report)
        yield from _engine(report)
        yield from _sources(report)


def _ledger(report: Report) -> Iterator[Metric]:
    yield _gauge("digest_due", "Digests due in the last 24 h, by schedule.", report.due)
    yield _gauges(
        "digest_deliveries",
        "Digests due in the last 24 h, by state.",
        ["state"],
        [([state], number) for state, number in report.states.items()],
    )
    yield _gauges(
        "digest_account_mails",
        "Account mails of the last 24 h, by state.",
        ["state"],
        [([state], number) for state, number in report.account_mail.items()],
    )
    yield _gauge("digest_missing", "Digests due that have no row yet.", report.missing)
    yield _gauge("digest_overdue", "Of these, more than 5 min after they were due.", report.overdue)
    yield _gauge("digest_unresolved", "Deliveries that are unknown.", report.unresolved)


def _engine(report: Report) -> Iterator[Metric]:
    rows = [([queue.provider], queue.rows) for queue in report.queues[:PROVIDERS]]
    if others := report.queues[PROVIDERS:]:
        rows.append((["other"], sum(queue.rows for queue in others)))
    yield _gauges("digest_queue_rows", "Mails that wait, by provider.", ["provider"], rows)
    first = min((queue.since for queue in report.queues if queue.since), default=report.end)
    yield _gauge(
        "digest_queue_age_seconds",
        "For how long the first of those that could go has waited.",
        (report.end - first).total_seconds(),
    )
    yield _gauges(
        "digest_breaker_open",
        "Routes that the circuit breaker stopped.",
        ["relay", "provider"],
        [([breaker.relay, breaker.provider], 1) for breaker in report.breakers],
    )
    kinds = Counter(alert.kind for alert in report.alerts)
    yield _gauges(
        "digest_alerts",
        "Alerts that are not over, by kind.",
        ["kind"],
        [([kind], number) for kind, number in kinds.items()],
    )
    alive = sum(worker.silent < ALIVE for worker in report.workers)
    yield _gauge("digest_delivering", "Processes that deliver and have a heartbeat.", alive)
    if report.serving is not None:
        yield _gauge("digest_workers", "Processes that take jobs.", report.serving)


def _sources(report: Report) -> Iterator[Metric]:
    yield _gauges(
        "digest_source_healthy",
        "Whether the last read of a source was a good one.",
        ["source"],
        [([read.source], read.health.good) for read in report.sources],
    )
    yield _gauges(
        "digest_source_age_seconds",
        "How long ago a source was last read well.",
        ["source"],
        [
            ([source], (report.end - good_at).total_seconds())
            for source, good_at in report.good_at.items()
            if good_at is not None
        ],
    )


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, value=value)


def _gauges(
    name: str, words: str, labels: list[str], values: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family
