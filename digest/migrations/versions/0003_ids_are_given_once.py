"""Ids are given once on SQLite too; an erasure finds somebody's account mails by an index."""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COUNTED = ("subscriber", "digest", "account_mail", "delivery", "attempt", "alert")


def upgrade() -> None:
    op.create_index("ix_account_mail_subscriber_id", "account_mail", ["subscriber_id"])
    if op.get_bind().dialect.name == "sqlite":
        for table in COUNTED:
            _count(table)


def _count(table: str) -> None:
    """Make a table anew, word by word what it is, with AUTOINCREMENT: only then SQLite remembers."""
    connection = op.get_bind()
    found = connection.execute(
        sa.text(
            "SELECT type, sql FROM sqlite_master WHERE tbl_name = :table AND sql IS NOT NULL"
            " ORDER BY type = 'index'"
        ),
        {"table": table},
    )
    [made, *indexes] = [row.sql for row in found]
    for old, new in (
        (rf'^CREATE TABLE "?{table}"?', "CREATE TABLE _counted"),
        (r"\bid INTEGER NOT NULL", "id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"),
        (rf",\s*CONSTRAINT pk_{table} PRIMARY KEY \(id\)", ""),
    ):
        made, changed = re.subn(old, new, made)
        assert changed == 1, f"{table} is not as the migrations made it: {old}"
    connection.exec_driver_sql(made)
    connection.exec_driver_sql(f"INSERT INTO _counted SELECT * FROM {table}")  # noqa: S608 - ours
    connection.exec_driver_sql(f"DROP TABLE {table}")
    connection.exec_driver_sql(f"ALTER TABLE _counted RENAME TO {table}")
    for index in indexes:
        connection.exec_driver_sql(index)
