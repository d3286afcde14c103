"""The index that search looks in: a row for each paper that is to be found, and its words.

The words themselves are in `indexed_words`, which is another thing in each database: in SQLite an
FTS5 table by `rowid`, without content of its own, in PostgreSQL a tsvector by `place`.
"""

from __future__ import annotations

from sqlalchemy import DDL, Boolean, Column, ForeignKey, Integer, LargeBinary, String, Table, event

from digest.schema.base import Id, metadata

# Where a paper stands among all by date: the day of its newest listing, and its number.
indexed = Table(
    "indexed",
    metadata,
    Column("place", Id, primary_key=True, autoincrement=False),
    Column("paper_id", Id, ForeignKey("paper.id"), nullable=False, unique=True),
    Column("upvotes", Integer),
    Column("comments", Integer),
    Column("stars", Integer),
    Column("code", Boolean, nullable=False),
)

# What was indexed, compressed: FTS5 has to be told what it shall forget, and changes are found.
indexed_text = Table(
    "indexed_text",
    metadata,
    Column("place", Id, ForeignKey("indexed.place"), primary_key=True, autoincrement=False),
    Column("spelled", LargeBinary, nullable=False),
)

# In how many papers each word is, to tell what somebody meant and what is rare. None: in no more.
term = Table(
    "term",
    metadata,
    Column("term", String().with_variant(String(collation="C"), "postgresql"), primary_key=True),
    Column("papers", Integer, nullable=False),
)

FTS5 = """
CREATE VIRTUAL TABLE indexed_words USING fts5(
    title, abstract, summary, keyword, org, author, names,
    content='', tokenize="ascii tokenchars '+#._=|'"
)"""
# FTS5 forgets what it is told; an index that is emptied by other means is told so.
EMPTIED = """
CREATE TRIGGER indexed_emptied AFTER DELETE ON indexed
WHEN NOT EXISTS (SELECT 1 FROM indexed)
BEGIN INSERT INTO indexed_words(indexed_words) VALUES ('delete-all'); END"""
TSVECTOR = """
CREATE TABLE indexed_words (
    place BIGINT PRIMARY KEY REFERENCES indexed (place) ON DELETE CASCADE,
    terms TSVECTOR NOT NULL
)"""
# Without fastupdate, whose list of what is new each search would have to read.
GIN = """
CREATE INDEX indexed_words_terms ON indexed_words USING gin (terms) WITH (fastupdate = off)"""
WORDS = {"sqlite": (FTS5, EMPTIED), "postgresql": (TSVECTOR, GIN)}
for _dialect, _statements in WORDS.items():
    for _statement in _statements:
        _made = DDL(_statement)  # type: ignore[no-untyped-call]
        event.listen(indexed_text, "after_create", _made.execute_if(dialect=_dialect))
