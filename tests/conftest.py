"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.databases import bare, database_url, engine, postgres_url, sqlite_url, tables
from tests.desk import at_eight, desk, each_desk
from tests.house import house
from tests.reception import lite, reception, still
from tests.replay import replay, replay_server
from tests.rows import rows
from tests.sink import certificate, sink

__all__ = [
    "at_eight",
    "bare",
    "certificate",
    "database_url",
    "desk",
    "each_desk",
    "engine",
    "house",
    "lite",
    "postgres_url",
    "reception",
    "replay",
    "replay_server",
    "rows",
    "shared_data",
    "sink",
    "sqlite_url",
    "still",
    "tables",
]

settings.register_profile("unhurried", deadline=None)  # no test is timed
settings.load_profile("unhurried")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each tester begins with long tests: else one of them ends minutes after the others.

    pytest-xdist gives each an equal part of the list, one after the other.
    """
    long = [item for item in items if item.get_closest_marker("long")]
    short = [item for item in items if not item.get_closest_marker("long")]
    items.clear()
    for left in range(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")), 0, -1):
        size = (len(long) + len(short)) // left
        first = long[::left]
        del long[::left]
        items += first + short[: size - len(first)]
        del short[: size - len(first)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Half a letter in a log cannot travel from the process that ran the test (pytest-xdist)."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command under test sets the level of all logs; the next test begins as if it had not."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded third-party data, which lies beside the checkout or nowhere."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no recorded data at {path}")
    return path
