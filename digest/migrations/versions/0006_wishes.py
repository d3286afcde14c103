"""What readers say of papers: interests, searches, feedback; more wishes of a subscriber."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    for column in (
        sa.Column("min_score", sa.Float(), nullable=True),
        sa.Column("detail", sa.String(length=10), nullable=False, server_default="summary"),
        sa.Column("quiet_day", sa.String(length=10), nullable=False, server_default="skip"),
        sa.Column("plain", sa.Boolean(), nullable=False, server_default=sa.false()),
    ):
        op.add_column("subscriber", column)
    op.create_table(
        "interest",
        _subscriber("interest"),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("subscriber_id", "kind", "key", name=op.f("pk_interest")),
    )
    op.create_table(
        "search",
        sa.Column("id", ID, nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search")),
        sa.UniqueConstraint("query", name=op.f("uq_search_query")),
    )
    op.create_table(
        "search_follow",
        _subscriber("search_follow"),
        sa.Column(
            "search_id",
            ID,
            sa.ForeignKey("search.id", name=op.f("fk_search_follow_search_id_search")),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("subscriber_id", "search_id", name=op.f("pk_search_follow")),
    )
    op.create_index("ix_search_follow_search_id", "search_follow", ["search_id"])
    op.create_table(
        "feedback",
        _subscriber("feedback"),
        sa.Column(
            "paper_id",
            ID,
            sa.ForeignKey("paper.id", name=op.f("fk_feedback_paper_id_paper")),
            nullable=False,
        ),
        sa.Column("action", sa.String(length=10), nullable=False),
        sa.Column("digest_id", ID, nullable=True),
        sa.Column("given_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("subscriber_id", "paper_id", "action", name=op.f("pk_feedback")),
    )


def _subscriber(table: str) -> sa.Column[int]:
    key = op.f(f"fk_{table}_subscriber_id_subscriber")
    return sa.Column("subscriber_id", ID, sa.ForeignKey("subscriber.id", name=key), nullable=False)
