"""Rows of the ledger as a test wants them, put straight into the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, Table, func, insert, select

from digest import schema
from digest.models import Frequency, State, Status
from digest.storage.database import reading, writing

NOW = datetime(2026, 5, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
_WAITING = (State.PLANNED, State.CLAIMED, State.SENDING, State.DEFERRED)


@dataclass(frozen=True, slots=True)
class Rows:
    """Puts rows into a database; what is not given is the plainest there is."""

    engine: Engine

    def add(self, table: Table, **values: Any) -> Any:
        """One row; its key, or the first part of it."""
        with writing(self.engine) as connection:
            query = insert(table).values(values).returning(*table.primary_key)
            return connection.execute(query).scalar_one()

    def all(self, table: Table) -> list[Mapping[str, Any]]:
        with reading(self.engine) as connection:
            query = select(table).order_by(*table.primary_key)
            return [dict(row) for row in connection.execute(query).mappings()]

    def count(self, table: Table) -> int:
        with reading(self.engine) as connection:
            found: int = connection.execute(select(func.count()).select_from(table)).scalar_one()
        return found

    def subscriber(self, *, hour: int | None = None) -> int:
        """Somebody, active for long; with an hour a digest is due daily at it (UTC)."""
        address = f"reader{self.count(schema.subscriber)}@example.org"
        since = NOW - 1000 * DAY
        subscriber_id: int = self.add(
            schema.subscriber,
            address=address,
            address_key=address,
            address_hash=address,
            name="",
            zone="UTC",
            hour=hour or 0,
            frequency=Frequency.DAILY,
            max_papers=5,
            locale="en",
            status=Status.ACTIVE,
            created_at=since,
            confirmed_at=since,
        )
        if hour is not None:
            self.add(
                schema.schedule,
                subscriber_id=subscriber_id,
                since=since,
                zone="UTC",
                hour=hour,
                frequency=Frequency.DAILY,
                active=True,
            )
        return subscriber_id

    def digest(
        self, due_at: datetime, state: State = State.SENT, *, subscriber_id: int = 0, **more: Any
    ) -> int:
        """Somebody's digest with its delivery, whose id is returned."""
        parts: dict[str, Any] = {
            name: more.pop(name) for name in ("skeleton", "items", "parts") if name in more
        }
        values: dict[str, Any] = {
            "subscriber_id": subscriber_id or self.subscriber(hour=due_at.hour),
            "slot": due_at.date(),
            "due_at": due_at,
            "zone": "UTC",
            "hour": due_at.hour,
            "frequency": Frequency.DAILY,
            "planned_at": due_at,
            "paper_ids": [1, 2],
            "items": [],
            "parts": "",
            "reason": "",
            "personal": {"address": "reader@example.org"},
            **parts,
        }
        digest_id = self.add(schema.digest, **values)
        return self.delivery(
            due_at, state, digest_id=digest_id, subscriber_id=values["subscriber_id"], **more
        )

    def account_mail(self, created_at: datetime, state: State = State.SENT, **more: Any) -> int:
        """A mail that somebody asked for, with its delivery, whose id is returned."""
        mail_id = self.add(
            schema.account_mail,
            kind="confirm",
            request=str(self.count(schema.account_mail)),
            skeleton=more.pop("skeleton", None) or self.part(created_at=created_at),
            personal={"address": "reader@example.org"},
            created_at=created_at,
        )
        return self.delivery(created_at, state, account_mail_id=mail_id, priority=0, **more)

    def delivery(self, due_at: datetime, state: State, **more: Any) -> int:
        values: dict[str, Any] = {
            "priority": 1,
            "address": "reader@example.org",
            "provider": "example.org",
            "state": state,
            "reason": "",
            "due_at": due_at,
            "next_attempt_at": due_at,
            "give_up_at": due_at + DAY,
            **dict.fromkeys(("attempts", "losses", "crashes", "claim"), 0),
            "text": "250 taken",
            "ended_at": None if state in _WAITING else due_at,
            **more,
        }
        found: int = self.add(schema.delivery, **values)
        return found

    def part(self, *, created_at: datetime = NOW, kind: str = "skeleton") -> str:
        """A part, known by its number; its hash."""
        name = f"{self.count(schema.part):064}"
        found: str = self.add(
            schema.part, hash=name, kind=kind, head=b"", html=b"", text=b"", created_at=created_at
        )
        return found

    def attempt(self, delivery_id: int, started_at: datetime) -> int:
        found: int = self.add(
            schema.attempt,
            delivery_id=delivery_id,
            claim=self.count(schema.attempt),
            started_at=started_at,
            outcome=State.SENT,
            text="",
        )
        return found

    def route(self, provider: str, *, state: str = "closed", reason: str = "") -> int:
        found: int = self.add(
            schema.route,
            relay="smtp.example.org",
            provider=provider,
            drawn_today=0,
            state=state,
            reason=reason,
            kind="5.7.1" if reason else "",
            opened_at=NOW - HOUR if reason else None,
            probe_at=NOW + 5 * MINUTE if reason else None,
            probes=0,
            window_from=0,
        )
        return found

    def read(self, source: str, at: datetime, *, good: bool = True) -> None:
        """A read of a source, and what is remembered of it."""
        self.add(
            schema.source_run,
            source=source,
            started_at=at,
            seconds=1,
            health="ok" if good else "failed",
            reason="",
            **dict.fromkeys(("fetched", "new", "changed", "unchanged"), 0),
        )
        if not any(row["name"] == source for row in self.all(schema.source)):
            self.add(schema.source, name=source, good_at=at if good else None, state={})


@pytest.fixture
def rows(engine: Engine) -> Rows:
    """Empty tables, on SQLite and on PostgreSQL."""
    return Rows(engine)
