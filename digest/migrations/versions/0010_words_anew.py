"""The index of search is made anew after all migrations: what a word is has changed."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("term", "indexed_text", "indexed"):  # and with the last one all words
        op.execute(f"DELETE FROM {table}")  # noqa: S608 - our names
