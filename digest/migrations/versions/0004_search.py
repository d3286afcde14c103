"""The index of search. What is stored already is indexed after all migrations, in the same step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FTS5 = """
CREATE VIRTUAL TABLE indexed_words USING fts5(
    title, abstract, summary, keyword, org, author, names,
    content='', tokenize="ascii tokenchars '+#._=|'"
)"""
EMPTIED = """
CREATE TRIGGER indexed_emptied AFTER DELETE ON indexed
WHEN NOT EXISTS (SELECT 1 FROM indexed)
BEGIN INSERT INTO indexed_words(indexed_words) VALUES ('delete-all'); END"""
TSVECTOR = """
CREATE TABLE indexed_words (
    place BIGINT PRIMARY KEY REFERENCES indexed (place) ON DELETE CASCADE,
    terms TSVECTOR NOT NULL
)"""
GIN = """
CREATE INDEX indexed_words_terms ON indexed_words USING gin (terms) WITH (fastupdate = off)"""
WORDS = {"sqlite": (FTS5, EMPTIED), "postgresql": (TSVECTOR, GIN)}


def upgrade() -> None:
    op.create_table(
        "indexed",
        sa.Column("place", ID, nullable=False, autoincrement=False),
        sa.Column("paper_id", ID, nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=True)
            for name in ("upvotes", "comments", "stars")
        ),
        sa.Column("code", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["paper_id"], ["paper.id"], name=op.f("fk_indexed_paper_id_paper")),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_indexed")),
        sa.UniqueConstraint("paper_id", name=op.f("uq_indexed_paper_id")),
    )
    op.create_table(
        "indexed_text",
        sa.Column("place", ID, nullable=False, autoincrement=False),
        sa.Column("spelled", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["place"], ["indexed.place"], name=op.f("fk_indexed_text_place_indexed")
        ),
        sa.PrimaryKeyConstraint("place", name=op.f("pk_indexed_text")),
    )
    op.create_table(
        "term",
        sa.Column(
            "term",
            sa.String().with_variant(sa.String(collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("papers", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("term", name=op.f("pk_term")),
    )
    connection = op.get_bind()
    for statement in WORDS[connection.dialect.name]:
        connection.exec_driver_sql(statement)
