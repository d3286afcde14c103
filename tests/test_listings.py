"""Lists of papers as pages show them, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from digest.storage import listings
from digest.storage.database import reading
from tests.web_site import add_paper

NOW = datetime(2026, 5, 28, 6, tzinfo=UTC)


def test_the_last_days_with_papers_whatever_lies_between(engine: Engine) -> None:
    days = [NOW - timedelta(days=distance) for distance in (0, 1, 1, 40, 900)]
    for number, listed_at in enumerate(days):
        add_paper(engine, f"Paper {number}", listed_at)
    with reading(engine) as connection:
        found = listings.recent_days(connection)
        assert listings.recent_days(connection, limit=2) == found[:2]
    assert found == [
        (NOW.date(), 1),
        ((NOW - timedelta(days=1)).date(), 2),
        ((NOW - timedelta(days=40)).date(), 1),
        ((NOW - timedelta(days=900)).date(), 1),
    ]
