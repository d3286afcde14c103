"""Routes are found by who receives, for an erasure names no relay."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_route_provider", "route", ["provider"])
