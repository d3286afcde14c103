"""Bringing the tables to this version, and telling when they are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic.command import upgrade as _upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from digest.errors import SchemaError
from digest.storage import index, papers, queue
from digest.storage.database import writing


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    return config


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Apply what is missing, all or nothing; the revisions before and after."""
    config = _config()
    with _altering(engine) as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        config.attributes["connection"] = connection
        _upgrade(config, "head")
        index.build(connection, papers.unindexed(connection))
        if engine.dialect.name == "postgresql":
            queue.upgrade(connection)
        after = MigrationContext.configure(connection).get_current_revision()
    assert after is not None
    return before, after


@contextmanager
def _altering(engine: Engine) -> Iterator[Connection]:
    """A transaction in which tables may be made anew, while others refer to them.

    SQLite would empty what refers to a table that is dropped, and hears of foreign keys outside of
    transactions alone (sqlite.org/lang_altertable.html, 7).
    """
    if engine.dialect.name != "sqlite":
        with writing(engine) as connection:
            yield connection
        return
    with engine.connect().execution_options(digest_write=True) as connection:
        driver = connection.connection.cursor()
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                if lost := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise SchemaError(f"{lost[0]} refers to rows of {lost[2]} that are not there.")
        finally:
            driver.execute("PRAGMA foreign_keys=ON")
            driver.close()


def check(engine: Engine) -> str | None:
    """What is wrong with the tables, as a sentence that names the command; None when nothing is."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        behind = engine.dialect.name == "postgresql" and not queue.is_current(connection)
    if current == head:
        return "The tables of the workers' jobs are behind. Run: digest migrate" if behind else None
    if current is None:
        return "The database has no tables yet. Run: digest migrate"
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current not in known:
        return (
            f"The database is at revision {current}, which this version does not know: it was"
            " migrated by a newer one. Run that one, or restore the backup from before it."
        )
    return f"The database is at revision {current}, this version needs {head}. Run: digest migrate"


def prepare(engine: Engine) -> None:
    """Make the tables in an empty SQLite; anywhere else raise SchemaError unless they are right."""
    problem = check(engine)
    if problem is None:
        return
    if engine.dialect.name == "sqlite" and not inspect(engine).get_table_names():
        upgrade(engine)
        return
    raise SchemaError(problem)
