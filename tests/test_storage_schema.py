"""Migrations make exactly the tables that the code believes in, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.command import upgrade as alembic_upgrade
from alembic.runtime.migration import MigrationContext
from procrastinate.schema import SchemaManager
from sqlalchemy import Engine, MetaData, delete, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from digest import schema
from digest.errors import Busy, SchemaError, SettingsError
from digest.models import State
from digest.services import build
from digest.settings import Settings
from digest.storage import database, gaps, migrating, queue
from digest.storage.database import (
    exclusive,
    file_system,
    open_database,
    reading,
    refuse_unsafe,
    writing,
)
from tests.databases import make_older, new_database
from tests.rows import Rows

NOW = datetime(2026, 5, 28, 6, 0, 0, 123456, tzinfo=UTC)


def test_schema_is_what_the_migrations_make(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_name": _is_ours}
        )
        assert compare_metadata(context, schema.metadata) == []
    assert migrating.check(engine) is None


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    # Of the index's words each database has its own kind of table, which no schema can say.
    return kind != "table" or name is None or not name.startswith((queue.PREFIX, "indexed_words"))


@pytest.fixture
def fresh_postgres(postgres_url: str) -> Iterator[Engine]:
    """A database on PostgreSQL, with the tables."""
    engine = open_database(new_database(postgres_url))
    yield engine
    engine.dispose()


def test_the_tables_of_jobs_are_made_once(fresh_postgres: Engine) -> None:
    assert "procrastinate_jobs" in inspect(fresh_postgres).get_table_names()
    before, after = migrating.upgrade(fresh_postgres)
    assert before == after


def test_a_newer_procrastinate_takes_its_steps(
    fresh_postgres: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, table in enumerate(("old", "newer", "newest")):
        step = tmp_path / f"{98 + number // 2:02}.00.00_0{number}_{table}.sql"
        step.write_text(f"CREATE TABLE procrastinate_{table} (); SELECT '100%';")
    with writing(fresh_postgres) as connection:
        connection.execute(text("COMMENT ON TABLE procrastinate_jobs IS '98.00.00_00_old.sql'"))
    monkeypatch.setattr(SchemaManager, "get_migrations_path", lambda: str(tmp_path))
    assert "digest migrate" in (migrating.check(fresh_postgres) or "")
    migrating.upgrade(fresh_postgres)
    assert migrating.check(fresh_postgres) is None
    made = set(inspect(fresh_postgres).get_table_names())
    assert {"procrastinate_newer", "procrastinate_newest"} <= made
    assert "procrastinate_old" not in made


def test_tables_are_made_anew_with_all_that_is_in_them(sqlite_url: str, tmp_path: Path) -> None:
    newest = open_database(f"sqlite:///{tmp_path}/newest.db")
    migrating.upgrade(newest)
    filled = Rows(newest)
    filled.digest(NOW, State.PLANNED, skeleton=filled.part())
    filled.account_mail(NOW)
    filled.attempt(1, NOW)
    filled.add(schema.alert, kind="late", subject="", text="", since=NOW)
    engine = open_database(sqlite_url)
    old = make_older(engine, "0002", filled=newest)
    newest.dispose()

    def stored() -> dict[str, list[tuple[object, ...]]]:
        with reading(engine) as connection:
            return {
                table.name: [tuple(row) for row in connection.execute(select(table))]
                for table in old.sorted_tables
            }

    before = stored()
    migrating.upgrade(engine)
    assert stored() == before
    rows = Rows(engine)
    for name in old.tables.keys() & {*schema.COUNTED}:
        last = rows.all(schema.metadata.tables[name])[-1]["id"]
        with writing(engine) as connection:
            counted = {"name": name}
            query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
            assert connection.execute(query, counted).scalar_one() == last
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        rows.delivery(NOW, State.SENT, digest_id=99)
    with pytest.raises(IntegrityError, match="UNIQUE"):
        rows.delivery(NOW, State.SENT, digest_id=1)
    with pytest.raises(IntegrityError, match="ck_delivery_state"):
        rows.delivery(NOW, "lost", digest_id=1)  # type: ignore[arg-type] # no state
    engine.dispose()


def test_papers_that_are_there_get_their_votes(bare: Engine) -> None:
    config = migrating._config()
    with writing(bare) as connection:
        config.attributes["connection"] = connection
        alembic_upgrade(config, "0003")
        old = MetaData()
        old.reflect(connection, only=["paper"])
        texts = ("title", "abstract", "summary", "url", "organisation", "venue", "comment")
        lists = ("authors", "keywords", "categories", "sources")
        for signals in ({}, {"upvotes": 12, "stars": 3}, {"comments": 1}, {"upvotes": 0}):
            connection.execute(
                insert(old.tables["paper"]).values(
                    **dict.fromkeys(texts, ""),
                    **{name: [] for name in lists},
                    links={},
                    signals=signals,
                    listed_at=NOW,
                    first_seen_at=NOW,
                    withdrawn=False,
                )
            )
    migrating.upgrade(bare)
    with reading(bare) as connection:
        table = schema.paper
        votes = connection.execute(select(table.c.votes).order_by(table.c.id)).scalars().all()
    assert votes == [0, 12, 0, 0]


def test_an_upgrade_that_fails_leaves_foreign_keys_on(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)

    def fail() -> None:
        with migrating._altering(engine) as connection:
            connection.execute(text("CREATE TABLE x (y)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with reading(engine) as connection:
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
        assert inspect(connection).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize("name", schema.COUNTED)
def test_no_id_is_given_twice(rows: Rows, name: str) -> None:
    """Not even that of the newest row, when it is deleted."""
    reader = rows.subscriber()
    made: dict[str, Callable[[], int]] = {
        "subscriber": rows.subscriber,
        "digest": lambda: rows.all(schema.delivery)[-1]["digest_id"] if rows.digest(NOW) else 0,
        "account_mail": lambda: (
            rows.all(schema.delivery)[-1]["account_mail_id"] if rows.account_mail(NOW) else 0
        ),
        "delivery": lambda: rows.account_mail(NOW),
        "attempt": lambda: rows.attempt(reader, NOW),
        "alert": lambda: rows.add(schema.alert, kind="", subject="", text="", since=NOW),
        "consent": lambda: rows.add(
            schema.consent,
            subscriber_id=rows.subscriber(),
            at=NOW,
            what="asked",
            source="",
            **dict.fromkeys(("text_version", "locale", "reason", "comment"), ""),
        ),
        "ticket": lambda: rows.add(
            schema.ticket, subscriber_id=rows.subscriber(), purpose="", data={}, created_at=NOW
        ),
        "request": lambda: rows.add(
            schema.request,
            **dict.fromkeys(("kind", "address", "address_key"), ""),
            data={},
            created_at=NOW,
            due_at=NOW,
        ),
    }
    first = made[name]()
    with writing(rows.engine) as connection:
        for table in reversed(schema.metadata.sorted_tables):
            if table is not schema.house:
                connection.execute(delete(table))
    second = made[name]()
    assert second > first
    with writing(rows.engine) as connection:
        gaps.skip_ids(connection, now=NOW)
    with writing(rows.engine) as connection:
        for table in (schema.attempt, schema.alert, schema.consent, schema.ticket, schema.request):
            connection.execute(delete(table))
    third = made[name]()
    assert third > NOW.timestamp() * 1000
    with writing(rows.engine) as connection:
        gaps.skip_ids(connection, now=NOW - timedelta(days=300))  # a clock that was set back
        for table in (schema.alert, schema.consent, schema.ticket, schema.request):
            connection.execute(delete(table))
    assert made[name]() > third


MOUNTS = b"""\
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/data /data nfs4 rw,vers=4.2 0 0
/dev/sdb1 /data/local/disk xfs rw 0 0
//server/share /mnt/my\\040share cifs rw 0 0
systemd-1 /srv autofs rw 0 0
server:/srv /srv nfs rw 0 0
C:\\134 /mnt/c 9p rw 0 0
me@host: /mnt/far fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/digest", "ext4"),
        ("/data/local", "nfs4"),
        ("/database", "ext4"),
        ("/data/local/disk/var", "xfs"),
        ("/mnt/my share/var", "cifs"),
        ("/srv", "nfs"),
        ("/mnt/c/Users", "9p"),
        ("/mnt/far/away", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_folder(path: str, kind: str) -> None:
    assert file_system(Path(path), mounts=MOUNTS) == kind
    assert file_system(Path(path), mounts=b"") == ""


def test_sqlite_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link to it too; as no such file system is here, this one's kind is put on the list."""
    kind = file_system(tmp_path.resolve(), mounts=Path("/proc/mounts").read_bytes())
    assert kind
    open_database(f"sqlite:///{tmp_path}/digest.db").dispose()
    monkeypatch.setattr(database, "_NETWORK_FILE_SYSTEMS", {kind})
    with pytest.raises(SettingsError, match=rf"network file system \({kind}\).*use PostgreSQL"):
        open_database(f"sqlite:///{tmp_path}/digest.db")


def test_an_empty_sqlite_gets_its_tables_by_itself(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    migrating.prepare(engine)
    assert "delivery" in inspect(engine).get_table_names()


def test_another_empty_database_names_the_command(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    with pytest.raises(SchemaError, match="digest migrate"):
        migrating.prepare(engine)
    engine.dispose()


def test_tables_of_a_newer_version_are_refused(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer"):
        migrating.prepare(engine)


def test_instants_come_back_as_they_went(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(insert(schema.source).values(name="x", state={}, good_at=NOW))
    with reading(engine) as connection:
        assert connection.execute(select(schema.source.c.good_at)).scalar_one() == NOW
    with pytest.raises(StatementError, match="naive"), writing(engine) as connection:
        connection.execute(
            insert(schema.source).values(name="y", state={}, good_at=NOW.replace(tzinfo=None))
        )


def test_sqlite_is_durable(sqlite_url: str) -> None:
    with open_database(sqlite_url).connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2  # FULL
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


@pytest.mark.parametrize("name", ["fsync", "synchronous_commit"])
def test_a_database_that_forgets_is_refused(
    name: str, fresh_postgres: Engine, tmp_path: Path
) -> None:
    database = fresh_postgres.url.database
    with writing(fresh_postgres) as connection:
        connection.execute(text(f"ALTER DATABASE {database} SET synchronous_commit = off"))
    fresh_postgres.dispose()
    with pytest.raises(SettingsError, match=f"{name}.*DIGEST_ALLOW_UNSAFE_DATABASE"):
        refuse_unsafe(fresh_postgres)
    settings = Settings(
        data_dir=tmp_path,
        database_url=fresh_postgres.url.render_as_string(hide_password=False),
        allow_unsafe_database=True,
    )
    build(settings).engine.dispose()


def test_a_database_that_cannot_be_opened_is_named_without_its_password() -> None:
    with pytest.raises(SettingsError) as caught:
        open_database("postgresql+psycopg://me:secret@127.0.0.1:1/none")
    assert "DIGEST_DATABASE_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_one_holds_a_lock_and_the_next_is_told(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    with exclusive(engine, "plan", folder):
        with pytest.raises(Busy, match="plan"), exclusive(engine, "plan", folder):
            pass
        with exclusive(engine, "deliver", folder):
            pass
    with exclusive(engine, "plan", folder):
        pass
