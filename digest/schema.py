"""The tables, for SQLite and PostgreSQL alike.

What must never happen twice is a unique key; what must happen is a row with a state. The columns
for workers, claims, providers and content-addressed parts are those of the delivery ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from digest.models import State, Status

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        found: datetime = value
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
# SQLite counts rows by itself only for INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer(), "sqlite")


def _one_of(column: str, values: type[State] | type[Status]) -> CheckConstraint:
    names = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({names})", name=column)


# ------------------------------------------------------------------ sources and papers

source = Table(
    "source",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("seeded_at", Instant),  # first good read: what was listed long before is not mailed
    Column("good_at", Instant),  # last good read
    Column("state", Json, nullable=False),  # validators, last batch: the source's own memory
)

source_run = Table(
    "source_run",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", String(200), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("health", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("fetched", Integer, nullable=False),
    Column("new", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("unchanged", Integer, nullable=False),
    Index(None, "source", "started_at"),
)

paper = Table(
    "paper",
    metadata,
    Column("id", Id, primary_key=True),
    Column("merged_into", Id, ForeignKey("paper.id")),
    Column("title", Text, nullable=False),
    Column("abstract", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("authors", Json, nullable=False),
    Column("organisation", Text, nullable=False),
    Column("venue", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("keywords", Json, nullable=False),
    Column("categories", Json, nullable=False),
    Column("sources", Json, nullable=False),
    Column("links", Json, nullable=False),
    Column("signals", Json, nullable=False),  # newest value of each, maximum over sources
    Column("arxiv_id", String(40)),
    Column("doi", Text),
    Column("published_at", Instant),
    Column("listed_at", Instant, nullable=False),
    Column("first_seen_at", Instant, nullable=False),
    Column("fresh_at", Instant),  # a candidate since; null: stored, never mailed
    Column("withdrawn", Boolean, nullable=False),
    Index(None, "fresh_at"),
    Index(None, "listed_at"),
)

# An exact name of a work: arXiv id, DOI, or the title key of records without either.
identifier = Table(
    "identifier",
    metadata,
    Column("kind", String(10), primary_key=True),  # arxiv | doi | title
    Column("value", Text, primary_key=True),
    Column("paper_id", Id, ForeignKey("paper.id"), nullable=False, index=True),
)

record = Table(
    "record",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source", String(200), nullable=False),
    Column("external_id", Text, nullable=False),
    Column("paper_id", Id, ForeignKey("paper.id"), nullable=False, index=True),
    Column("kind", String(10), nullable=False),
    Column("version", Integer),
    Column("fresh", Boolean, nullable=False),  # makes its paper a candidate
    Column("listed_at", Instant, nullable=False),
    Column("first_seen_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("content", Json, nullable=False),  # the cleaned fields
    Column("raw", Text, nullable=False),  # as received
    UniqueConstraint("source", "external_id"),
)

# One row a reading that differs from the one before, so that growth can be told.
signal = Table(
    "signal",
    metadata,
    Column("record_id", Id, ForeignKey("record.id"), primary_key=True),
    Column("name", String(20), primary_key=True),
    Column("seen_at", Instant, primary_key=True),
    Column("value", Integer, nullable=False),
)

# A merge remembers what it moved, so that it can be undone; an undone pair stays apart.
merge = Table(
    "merge",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kept_id", Id, ForeignKey("paper.id"), nullable=False, index=True),
    Column("merged_id", Id, ForeignKey("paper.id"), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    # {"ours": [], "papers": [], "records": [], "identifiers": [[kind, value]]}: what `kept` had
    # taken in before, and what came from `merged`.
    Column("moved", Json, nullable=False),
    Column("merged_at", Instant, nullable=False),
    Column("undone_at", Instant),
)

# ------------------------------------------------------------------ topics and subscribers

topic = Table(
    "topic",
    metadata,
    Column("id", Id, primary_key=True),
    Column("slug", String(60), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

subscriber = Table(
    "subscriber",
    metadata,
    Column("id", Id, primary_key=True),
    Column("address", Text, nullable=False),  # as typed; mail goes here
    Column("address_key", Text, nullable=False, unique=True),
    Column("address_hash", String(64), nullable=False, index=True),  # keyed; suppression's key
    Column("name", Text, nullable=False),
    Column("zone", String(64), nullable=False),
    Column("hour", SmallInteger, nullable=False),
    Column("frequency", String(10), nullable=False),
    Column("weekday", SmallInteger),
    Column("max_papers", SmallInteger, nullable=False),
    Column("locale", String(20), nullable=False),
    Column("status", String(12), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("confirmed_at", Instant),
    Column("paused_until", Instant),
    # A hint that lets planning find who is due; the schedule's history is the truth.
    Column("next_due_at", Instant, index=True),
    _one_of("status", Status),
    CheckConstraint("hour BETWEEN 0 AND 23", name="hour"),
)

# When a digest was due, at each time: what "due" is counted from, independently of the ledger.
schedule = Table(
    "schedule",
    metadata,
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), primary_key=True),
    Column("since", Instant, primary_key=True),
    Column("until", Instant),  # the next row's since; null for the one in force
    Column("zone", String(64), nullable=False),
    Column("hour", SmallInteger, nullable=False),
    Column("frequency", String(10), nullable=False),
    Column("weekday", SmallInteger),
    Column("active", Boolean, nullable=False),
    Index(None, "until"),
)

follow = Table(
    "follow",
    metadata,
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), primary_key=True),
    Column("topic_id", Id, ForeignKey("topic.id"), primary_key=True, index=True),
)

# Outlives the subscriber: nothing but a keyed hash of the address.
suppression = Table(
    "suppression",
    metadata,
    Column("address_hash", String(64), primary_key=True),
    Column("reason", String(20), nullable=False),  # unsubscribed | bounced | complained | erased
    Column("detail", Text, nullable=False),
    Column("since", Instant, nullable=False),
)

# ------------------------------------------------------------------ digests and the ledger

# Skeletons and cards, by the hash of their content; shared by all digests that name them.
part = Table(
    "part",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("kind", String(10), nullable=False),  # skeleton | card
    Column("html", LargeBinary, nullable=False),
    Column("text", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
)

# The frozen choice. Everything that its bytes are made of is here or in the parts it names.
digest = Table(
    "digest",
    metadata,
    Column("id", Id, primary_key=True),
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), nullable=False),
    Column("slot", Date, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),
    Column("zone", String(64), nullable=False),
    Column("hour", SmallInteger, nullable=False),
    Column("frequency", String(10), nullable=False),
    Column("planned_at", Instant, nullable=False),  # the window's end
    Column("window_start", Instant),
    Column("paper_ids", Json, nullable=False),  # the compact history: outlives the rest
    Column("items", Json, nullable=False),  # [{paper_id, score, reasons, card, part}]
    Column("reason", String(40), nullable=False),  # why there is nothing to send
    Column("skeleton", String(64), ForeignKey("part.hash")),
    Column("personal", Json, nullable=False),  # name address date message_id boundary key locale
    UniqueConstraint("subscriber_id", "slot"),
)

# Confirmations, lost links, changes of address, exports, erasures.
account_mail = Table(
    "account_mail",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("request", String(64), nullable=False),  # one mail a request, however often it is made
    Column("subscriber_id", Id, ForeignKey("subscriber.id")),
    Column("skeleton", String(64), ForeignKey("part.hash"), nullable=False),
    Column("personal", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("kind", "request"),
)

worker = Table(
    "worker",
    metadata,
    Column("id", Id, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("heartbeat_at", Instant, nullable=False),
    Column("stopped_at", Instant),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", Id, primary_key=True),
    Column("digest_id", Id, ForeignKey("digest.id"), unique=True),
    Column("account_mail_id", Id, ForeignKey("account_mail.id"), unique=True),
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), index=True),
    Column("priority", SmallInteger, nullable=False),  # 0 account mail, 1 digest
    Column("address", Text, nullable=False),  # frozen; "" once erased
    Column("provider", String(255), nullable=False),  # receiving provider: the address's domain
    Column("state", String(10), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("next_attempt_at", Instant, nullable=False),
    Column("give_up_at", Instant, nullable=False),
    Column("attempts", SmallInteger, nullable=False),  # spent, not merely begun
    Column("claim", Integer, nullable=False),  # counts claims: fences a worker past its lease
    Column("worker_id", Id, ForeignKey("worker.id")),
    Column("code", SmallInteger),
    Column("enhanced", String(12)),
    Column("text", Text, nullable=False),  # the server's words, addresses taken out
    Column("ended_at", Instant),
    _one_of("state", State),
    CheckConstraint("(digest_id IS NULL) <> (account_mail_id IS NULL)", name="content"),
    Index(None, "state", "priority", "next_attempt_at"),
    Index(None, "due_at"),
    Index(None, "worker_id"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("delivery_id", Id, ForeignKey("delivery.id"), nullable=False, index=True),
    Column("claim", Integer, nullable=False),
    Column("worker_id", Id, ForeignKey("worker.id")),
    Column("started_at", Instant, nullable=False),
    Column("seconds", Float),
    Column("relay", Text, nullable=False),
    Column("outcome", String(10), nullable=False),  # sending until the answer is known
    Column("code", SmallInteger),
    Column("enhanced", String(12)),
    Column("text", Text, nullable=False),
    UniqueConstraint("delivery_id", "claim"),
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
