"""Sources, what they said, and the papers that came of it."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from digest.schema.base import Id, Instant, Json, metadata, only_where

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
    Column("votes", Integer, nullable=False, server_default="0"),  # of these: what lists sort by
    Column("arxiv_id", String(40)),
    Column("doi", Text),
    Column("published_at", Instant),
    Column("listed_at", Instant, nullable=False),
    Column("first_seen_at", Instant, nullable=False),
    Column("fresh_at", Instant),  # a candidate since; null: stored, never mailed
    Column("withdrawn", Boolean, nullable=False),
    Index(None, "fresh_at"),
    # All that the order of a day's, a week's or a month's list is made of, so that no row is read.
    Index("ix_paper_listed", "listed_at", "votes", "id", **only_where("merged_into IS NULL")),
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
