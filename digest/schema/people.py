"""Topics, subscribers, what they chose, and who is left alone."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

from digest.models import Detail, QuietDay, Status
from digest.schema.base import Id, Instant, metadata, one_of, only_where

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
    Column("min_score", Float),  # null: the house's
    Column("detail", String(10), nullable=False, server_default=Detail.SUMMARY),
    Column("quiet_day", String(10), nullable=False, server_default=QuietDay.SKIP),
    Column("plain", Boolean, nullable=False, server_default=false()),
    # A hint that lets planning find who is due; the schedule's history is the truth.
    Column("next_due_at", Instant, index=True),
    # Of the links in mails, and of the feed of saved papers: an older one is worth nothing.
    Column("generation", Integer, nullable=False, server_default=text("0")),
    Column("saved_generation", Integer, nullable=False, server_default=text("0")),
    one_of("status", Status),
    CheckConstraint("hour BETWEEN 0 AND 23", name="hour"),
    Index("ix_subscriber_unconfirmed", "created_at", **only_where("confirmed_at IS NULL")),
    Index("ix_subscriber_paused", "paused_until", **only_where("status = 'paused'")),
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
    Column("welcome", Boolean, nullable=False, server_default=false()),  # a digest at once
    Index(None, "until"),
)

follow = Table(
    "follow",
    metadata,
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), primary_key=True),
    Column("topic_id", Id, ForeignKey("topic.id"), primary_key=True, index=True),
)

# Authors and labs followed, seed papers, muted words and topics.
interest = Table(
    "interest",
    metadata,
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), primary_key=True),
    Column("kind", String(20), primary_key=True),
    Column("key", Text, primary_key=True),  # what it is found by; short
    Column("value", Text, nullable=False),  # as typed
    Column("created_at", Instant, nullable=False),
)

# A filter that readers wrote; equal ones are one row, and matched once a pass.
search = Table(
    "search",
    metadata,
    Column("id", Id, primary_key=True),
    Column("query", Text, nullable=False, unique=True),  # canonical: `str` of its tree
    Column("created_at", Instant, nullable=False),
)

search_follow = Table(
    "search_follow",
    metadata,
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), primary_key=True),
    Column("search_id", Id, ForeignKey("search.id"), primary_key=True, index=True),
)

# What somebody said of a paper; "more" and "less" exclude each other.
feedback = Table(
    "feedback",
    metadata,
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), primary_key=True),
    Column("paper_id", Id, ForeignKey("paper.id"), primary_key=True),
    Column("action", String(10), primary_key=True),
    Column("digest_id", Id),  # where they met it
    Column("given_at", Instant, nullable=False),
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
