"""What people ask of their accounts: the requests, the links mailed for them, limits, evidence."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

from digest.schema.base import Id, Instant, Json, metadata

# What was asked on a page and is answered after it: the page tells nobody who subscribes.
request = Table(
    "request",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(20), nullable=False),  # subscribe | lost link | choice | nothing
    Column("address", Text, nullable=False),  # as typed
    Column("address_key", Text, nullable=False),
    Column("data", Json, nullable=False),  # locale source wishes topics
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False, index=True),  # later than made: it went wrong
    sqlite_autoincrement=True,
)

# A link that was mailed and is good for one use.
ticket = Table(
    "ticket",
    metadata,
    Column("id", Id, primary_key=True),
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), nullable=False, index=True),
    Column("purpose", String(20), nullable=False),  # change | export | erase
    Column("data", Json, nullable=False),  # of a change: address side partner
    Column("created_at", Instant, nullable=False),
    Column("used_at", Instant),
    sqlite_autoincrement=True,
)

# Evidence: who asked, agreed and left, when, by what, and which words they were shown.
consent = Table(
    "consent",
    metadata,
    Column("id", Id, primary_key=True),
    Column("subscriber_id", Id, ForeignKey("subscriber.id"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("what", String(20), nullable=False),  # asked | confirmed | unsubscribed | undone ...
    Column("source", String(40), nullable=False),
    Column("text_version", String(64), nullable=False),
    Column("locale", String(20), nullable=False),
    Column("reason", String(20), nullable=False),  # why they left, if they said
    Column("comment", Text, nullable=False),
    Index(None, "subscriber_id", "id"),
    sqlite_autoincrement=True,
)

# How often something was done in the window that began then; keys of people are hashed.
quota = Table(
    "quota",
    metadata,
    Column("kind", String(20), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("start", Instant, primary_key=True),
    Column("count", Integer, nullable=False),
    Index(None, "start"),
)
