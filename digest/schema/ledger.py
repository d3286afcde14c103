"""Digests, account mail, and the ledger of their delivery."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from digest.models import State
from digest.schema.base import Id, Instant, Json, metadata, one_of, only_where

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
    Column("replaced_due_at", Instant),  # of a welcome: that date's own hour, where it was to come
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
    Index("ix_worker_alive", "id", **only_where("stopped_at IS NULL")),
)

# The way over a relay to a receiving provider; provider "" is the relay as a whole. What is known
# of it and limited on it holds for all workers together.
route = Table(
    "route",
    metadata,
    Column("id", Id, primary_key=True),
    Column("relay", String(255), nullable=False),
    Column("provider", String(255), nullable=False, index=True),
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
    one_of("state", State),
    CheckConstraint("(digest_id IS NULL) <> (account_mail_id IS NULL)", name="content"),
    # Few and partial, for each costs at every move.
    Index(
        "ix_delivery_open",
        "provider",
        "priority",
        "next_attempt_at",
        **only_where("state IN ('planned', 'deferred')"),
    ),
    Index(
        "ix_delivery_account",
        "next_attempt_at",
        **only_where("priority = 0 AND state IN ('planned', 'deferred')"),
    ),
    Index("ix_delivery_held", "worker_id", **only_where("state IN ('claimed', 'sending')")),
    Index("ix_delivery_bad", "due_at", **only_where("state IN ('failed', 'unknown')")),
    Index(
        "uq_delivery_account_mail_id",
        "account_mail_id",
        unique=True,
        **only_where("account_mail_id IS NOT NULL"),
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
