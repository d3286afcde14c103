"""The house itself: which database it is, what it does, and what its operator is told."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    Index,
    String,
    Table,
    Text,
)

from digest.schema.base import Id, Instant, Json, metadata, only_where

# One row: which database this is, and a count that only grows. The data directory remembers the
# highest one seen, so that a database that was put back is known as such.
house = Table(
    "house",
    metadata,
    Column("id", Id, primary_key=True),  # 1
    Column("identity", String(32), nullable=False),
    Column("mark", Id, nullable=False),
)

# What a restored database does not know: from the backup to the restore.
gap = Table(
    "gap",
    metadata,
    Column("id", Id, primary_key=True),
    Column("start", Instant, nullable=False),
    Column("end", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
)

# What the operator was, or is to be, told of; one row a matter, so that nobody is told twice.
alert = Table(
    "alert",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(20), nullable=False),  # late | breaker | ...
    Column("subject", String(255), nullable=False),  # which slot, route, source
    Column("text", Text, nullable=False),
    Column("since", Instant, nullable=False),
    Column("told_at", Instant),
    Column("ended_at", Instant),
    Index("uq_alert_open", "kind", "subject", unique=True, **only_where("ended_at IS NULL")),
    sqlite_autoincrement=True,
)

# One execution of a stage, for people to look at.
run = Table(
    "run",
    metadata,
    Column("id", Id, primary_key=True),
    Column("stage", String(20), nullable=False),
    Column("started_at", Instant, nullable=False, index=True),
    Column("seconds", Float, nullable=False),
    Column("counts", Json, nullable=False),
    Column("error", Text, nullable=False),
)
