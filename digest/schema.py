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
    text,
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


def _only_where(condition: str) -> dict[str, Any]:
    """The arguments of an index of those rows alone."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


# Tables whose ids leave the house, in links and Message-IDs, or are compared with older ones. None
# is given out again: neither when the newest row is deleted, which SQLite would do by itself, nor
# after a restore.
COUNTED = ("subscriber", "digest", "account_mail", "delivery", "attempt", "alert")

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
    sqlite_autoincrement=True,
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
    Column("head", LargeBinary),  # of a skeleton: the headers that all its mails share
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
    Column("items", Json, nullable=False),  # [{paper_id, score, reasons, card}]
    Column("parts", Text, nullable=False),  # hashes of the cards, then "|" and those of the lines
    Column("reason", String(40), nullable=False),  # why there is nothing to send
    Column("skeleton", String(64)),
    Column("personal", Json, nullable=False),  # name address date message_id boundary key locale
    UniqueConstraint("subscriber_id", "slot"),
    sqlite_autoincrement=True,
)

# Confirmations, lost links, changes of address, exports, erasures.
account_mail = Table(
    "account_mail",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("request", String(64), nullable=False),  # one mail a request, however often it is made
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), index=True),
    Column("skeleton", String(64), nullable=False),
    Column("personal", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("kind", "request"),
    sqlite_autoincrement=True,
)

# Processes, and not rows, hold leases: who is gone loses what it held.
worker = Table(
    "worker",
    metadata,
    Column("id", Id, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("heartbeat_at", Instant, nullable=False),  # the database's clock
    Column("stopped_at", Instant),
    Index("ix_worker_alive", "id", **_only_where("stopped_at IS NULL")),
)

# The way over a relay to a receiving provider; provider "" is the relay as a whole. What is known
# of it and limited on it holds for all workers together.
route = Table(
    "route",
    metadata,
    Column("id", Id, primary_key=True),
    Column("relay", String(255), nullable=False),
    Column("provider", String(255), nullable=False),
    # Allowances: messages a second now (null: as many as the settings allow), drawn up to next_at.
    Column("rate", Float),
    Column("rate_changed_at", Instant),
    Column("next_at", Instant),
    Column("day", Date),
    Column("drawn_today", Integer, nullable=False),
    # The circuit breaker: closed | open | probing.
    Column("state", String(10), nullable=False),
    Column("reason", Text, nullable=False),
    Column("kind", String(20), nullable=False),  # of the refusals that opened it
    Column("opened_at", Instant),
    Column("probe_at", Instant),
    Column("probes", SmallInteger, nullable=False),  # in vain, one after another
    Column("window_from", Id, nullable=False),  # attempts before this one no longer count
    UniqueConstraint("relay", "provider"),
)

# No foreign key to what moves with every mail (worker, delivery): PostgreSQL would lock the row
# that is referred to at each attempt. States are few and texts short, for there is one row a mail.
delivery = Table(
    "delivery",
    metadata,
    Column("id", Id, primary_key=True),
    Column("digest_id", Id, ForeignKey("digest.id"), unique=True),
    Column("account_mail_id", Id, ForeignKey("account_mail.id")),
    Column("subscriber_id", Id, ForeignKey("subscriber.id")),
    Column("priority", SmallInteger, nullable=False),  # 0 account mail, 1 digest
    Column("address", Text, nullable=False),  # frozen; "" once erased
    Column("provider", String(255), nullable=False),  # who receives: MX group, else the domain
    Column("state", String(10), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("next_attempt_at", Instant, nullable=False),
    Column("give_up_at", Instant, nullable=False),
    Column("attempts", SmallInteger, nullable=False),  # spent, not merely begun
    Column("losses", SmallInteger, nullable=False),  # in flight when the server's trouble struck
    Column("crashes", SmallInteger, nullable=False),  # in flight when a worker died
    Column("claim", Integer, nullable=False),  # counts claims: fences a worker past its lease
    Column("worker_id", Id),
    # While it is `sending` these are the attempt; when it ended, a row of `attempt` is.
    Column("route_id", Id),
    Column("started_at", Instant),
    Column("code", SmallInteger),
    Column("enhanced", String(12)),
    Column("text", Text, nullable=False),  # the server's words, addresses taken out
    Column("ended_at", Instant),
    _one_of("state", State),
    CheckConstraint("(digest_id IS NULL) <> (account_mail_id IS NULL)", name="content"),
    # Few and partial, for each costs at every move.
    Index(
        "ix_delivery_open",
        "provider",
        "priority",
        "next_attempt_at",
        **_only_where("state IN ('planned', 'deferred')"),
    ),
    Index(
        "ix_delivery_account",
        "next_attempt_at",
        **_only_where("priority = 0 AND state IN ('planned', 'deferred')"),
    ),
    Index("ix_delivery_held", "worker_id", **_only_where("state IN ('claimed', 'sending')")),
    Index("ix_delivery_bad", "due_at", **_only_where("state IN ('failed', 'unknown')")),
    Index(
        "uq_delivery_account_mail_id",
        "account_mail_id",
        unique=True,
        **_only_where("account_mail_id IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

# An attempt that ended: when, how long, which way, what the server said.
attempt = Table(
    "attempt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("delivery_id", Id, nullable=False),
    Column("claim", Integer, nullable=False),
    Column("worker_id", Id),
    Column("route_id", Id),
    Column("started_at", Instant, nullable=False),
    Column("seconds", Float),
    Column("outcome", String(10), nullable=False),
    Column("code", SmallInteger),
    Column("enhanced", String(12)),
    Column("text", Text, nullable=False),
    UniqueConstraint("delivery_id", "claim"),
    Index(None, "route_id", "id"),
    sqlite_autoincrement=True,
)

# A refusal that says that an address is bad; it suppresses when its route is judged healthy.
bounce = Table(
    "bounce",
    metadata,
    Column("delivery_id", Id, primary_key=True),
    Column("subscriber_id", Id, nullable=False),
    Column("route_id", Id, nullable=False),
    Column("attempt_id", Id, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("at", Instant, nullable=False),
    Column("verdict", String(10), nullable=False),  # "" until judged; suppressed | withdrawn
)

# Which receiving provider answers for a domain, as the DNS said (its MX group).
domain = Table(
    "domain",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("provider", String(255), nullable=False),
    Column("looked_up_at", Instant, nullable=False),
)

# ------------------------------------------------------------------ the house

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
    Index("uq_alert_open", "kind", "subject", unique=True, **_only_where("ended_at IS NULL")),
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
