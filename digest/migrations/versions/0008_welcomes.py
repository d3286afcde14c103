"""What a welcome replaced: the hour of its date at which no other digest comes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("replaced_due_at", sa.DateTime(timezone=True), nullable=True)
    op.add_column("digest", column)
