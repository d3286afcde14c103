"""Votes in a column and an index of their own, by which long lists are sorted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("paper", sa.Column("votes", sa.Integer(), nullable=False, server_default="0"))
    if op.get_bind().dialect.name == "sqlite":
        votes = "json_extract(signals, '$.upvotes')"
    else:
        votes = "(signals->>'upvotes')::integer"
    op.execute(f"UPDATE paper SET votes = {votes} WHERE {votes} > 0")  # noqa: S608 - ours
    op.drop_index("ix_paper_listed_at", "paper")
    condition = sa.text("merged_into IS NULL")
    op.create_index(
        "ix_paper_listed",
        "paper",
        ["listed_at", "votes", "id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
