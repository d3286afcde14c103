"""The tables of procrastinate, by which workers share the work: made and upgraded with ours.

They are procrastinate's to read and write, and exist on PostgreSQL alone. It ships the tables of
its newest version, and the steps between versions as files whose names are in order. The table of
jobs remembers, as a comment, the last of them that it went through.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text

PREFIX = "procrastinate_"  # of the names of all its tables
SILENT = 30.0  # seconds after which a worker that asks for nothing counts as gone
_WORKER = "digest worker "


def upgrade(connection: Connection) -> None:
    """Make the tables, or take the steps that a newer procrastinate brings."""
    from procrastinate.schema import SchemaManager  # noqa: PLC0415 - an extra's package

    steps, (made, reached) = _steps(), _reached(connection)
    if not made:
        _execute(connection, SchemaManager.get_schema())
    for step in steps:
        if reached and step.name > reached:
            _execute(connection, step.read_text(encoding="utf-8"))
    _execute(connection, f"COMMENT ON TABLE procrastinate_jobs IS '{steps[-1].name}'")


def is_current(connection: Connection) -> bool:
    """Whether the tables are those of the procrastinate that is installed."""
    return _reached(connection) == (True, _steps()[-1].name)


def name_of(host: str, pid: int) -> str:
    """What a worker calls itself to PostgreSQL, which keeps 63 bytes of it."""
    return f"{_WORKER}{pid} {host}"[:63]


def serving(connection: Connection) -> int | None:
    """How many worker processes take jobs now; None on SQLite, which has none.

    procrastinate's own list has a row for each queue that a process serves. Each looks into its
    queues every second, so a connection that rests longer is of one that was stopped.
    """
    if connection.dialect.name != "postgresql":
        return None
    found = connection.execute(
        text(
            "SELECT count(DISTINCT application_name) FROM pg_stat_activity"
            " WHERE datname = current_database() AND starts_with(application_name, :worker)"
            " AND state_change > clock_timestamp() - make_interval(secs => :seconds)"
        ),
        {"worker": _WORKER, "seconds": SILENT},
    )
    return int(found.scalar_one())


def _steps() -> list[Path]:
    from procrastinate.schema import SchemaManager  # noqa: PLC0415 - an extra's package

    return sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))


def _reached(connection: Connection) -> tuple[bool, str]:
    """Whether the tables are there, and the last step that they went through."""
    found = connection.execute(
        text(
            "SELECT to_regclass('procrastinate_jobs') IS NOT NULL,"
            " coalesce(obj_description(to_regclass('procrastinate_jobs'), 'pg_class'), '')"
        )
    ).one()
    return bool(found[0]), str(found[1])


def _execute(connection: Connection, script: str) -> None:
    """Many statements at once, which the driver takes only from nobody but itself."""
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(script)
