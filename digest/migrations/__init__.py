"""The tables' history, applied by Alembic."""
