"""Runs the migrations on the connection that `digest.storage.migrating` hands over."""

from __future__ import annotations

from alembic import context

from digest.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a constraint in place
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
