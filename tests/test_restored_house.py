"""A whole house whose database is put back from yesterday's backup: nothing twice, nobody bothered.

Judged by what the mail server received, for the database does not know what it sent.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import pytest
from sqlalchemy import event, select, text, update

from digest import journal, schema
from digest.errors import RestoredDatabase
from digest.models import Frequency, OptOut, State, Status, Wishes
from digest.pipeline import restoring
from digest.pipeline.restoring import Means
from digest.storage import gaps, subscribers
from digest.storage import house as high_water
from digest.storage.database import open_database, reading, writing
from digest.storage.digests import slots_of
from digest.storage.gaps import Gap
from digest.storage.subscribers import Answer
from tests.databases import _named
from tests.house import House
from tests.replay import Replay

pytestmark = pytest.mark.long

TUESDAY = datetime(2026, 5, 19, tzinfo=UTC)
WEDNESDAY, THURSDAY = TUESDAY + timedelta(days=1), TUESDAY + timedelta(days=2)
HOUR = timedelta(hours=1)
WISHES = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=50)  # all that there is
STAYS, LEAVES = "ada@example.org", "bob@example.org"


def live(house: House, replay: Replay, day: datetime) -> None:
    """One day: the sources are read in the morning and at noon, the digests leave at eight."""
    replay.today(day.date())
    house.now = day + 5 * HOUR
    house.collect()
    house.now = day + 8 * HOUR
    house.plan()
    house.deliver()
    house.now = day + 12 * HOUR
    house.collect()


def person(house: House, address: str) -> int:
    with reading(house.services.engine) as connection:
        found = subscribers.find(connection, address)
    assert found is not None
    return found.id


def papers_of(house: House, address: str) -> list[set[str]]:
    """The papers in each mail to an address, by arXiv id, for rows have other ids now."""
    return [
        set(re.findall(r"\b\d{4}\.\d{5}\b", str(mail.get_body(("plain",)))))
        for mail in house.mails(address)
    ]


def means(house: House) -> Means:
    return Means(data_dir=house.settings.data_dir, catch_up=house.services.plan.catch_up)


def settle(house: House, *, backup_time: datetime) -> None:
    restoring.restored(house.services.engine, means(house), backup_time=backup_time, now=house.now)


# ------------------------------------------------------------------ three ways back


def by_command(house: House, tmp_path: Path) -> Callable[[], None]:
    """`digest backup`, and what puts that back with `digest restore`."""
    engine, file = house.services.engine, tmp_path / "backup.db"
    database = Path(engine.url.database or "")
    restoring.back_up(engine, database, file, data_dir=house.settings.data_dir, now=house.now)

    def put_back() -> None:
        engine.dispose()
        restoring.restore(
            database,
            file,
            means(house),
            locks=house.services.locks,
            backup_time=None,
            now=house.now,
        )

    return put_back


def by_hand(house: House, tmp_path: Path) -> Callable[[], None]:
    """The file copied, and copied back, and `digest restored`."""
    engine, file, at = house.services.engine, tmp_path / "copy.db", house.now
    database = Path(engine.url.database or "")
    engine.dispose()
    shutil.copy(database, file)

    def put_back() -> None:
        engine.dispose()
        shutil.copy(file, database)
        assert_refused(house)
        settle(house, backup_time=at)

    return put_back


def of_postgresql(house: House, tmp_path: Path) -> Callable[[], None]:
    """A copy made by the server, put back by it, and `digest restored`."""
    engine, at = house.services.engine, house.now
    url = engine.url.render_as_string(hide_password=False)
    name, server = engine.url.database, open_database(_named(url, "postgres"))

    def copy(old: str, new: str) -> None:
        engine.dispose()
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {new}"))
            connection.execute(text(f"CREATE DATABASE {new} TEMPLATE {old}"))
        server.dispose()

    copy(f"{name}", f"{name}_backup")

    def put_back() -> None:
        copy(f"{name}_backup", f"{name}")
        assert_refused(house)
        settle(house, backup_time=at)

    return put_back


def assert_refused(house: House) -> None:
    """Before anybody said what was lost, nothing is planned."""
    with pytest.raises(RestoredDatabase, match="digest restored --backup-time"):
        house.plan()


WAYS = [
    *(("sqlite", way) for way in (by_command, by_hand)),
    ("postgresql", of_postgresql),
]


@pytest.mark.parametrize(("database_url", "back_up"), WAYS, indirect=["database_url"])
def test_yesterdays_backup_is_put_back(
    house: House,
    replay: Replay,
    tmp_path: Path,
    back_up: Callable[[House, Path], Callable[[], None]],
) -> None:
    house.now = TUESDAY
    for address in (STAYS, LEAVES):
        house.subscribe(address, WISHES)
    live(house, replay, TUESDAY)
    house.now = TUESDAY + 20 * HOUR
    put_back = back_up(house, tmp_path)
    live(house, replay, WEDNESDAY)
    house.services.unsubscribe(person(house, LEAVES))
    house.now = WEDNESDAY + 15 * HOUR
    put_back()

    # The service is back, and reads the sources as it starts.
    for now in (WEDNESDAY + 16 * HOUR, WEDNESDAY + 20 * HOUR):
        house.now = now
        house.collect()
        house.plan()
        house.deliver()
    assert [len(house.mails(address)) for address in (STAYS, LEAVES)] == [2, 2]
    live(house, replay, THURSDAY)

    assert [len(house.mails(address)) for address in (STAYS, LEAVES)] == [3, 2]
    for address in (STAYS, LEAVES):
        had = papers_of(house, address)
        assert all(had)
        assert all(one.isdisjoint(other) for one, other in combinations(had, 2))
    with reading(house.services.engine) as connection:
        outcomes = slots_of(connection, person(house, STAYS))
        gone = subscribers.get(connection, person(house, LEAVES))
    assert [(slot.date.day, slot.state, slot.reason) for slot in outcomes] == [
        (21, State.SENT, ""),
        (20, State.SKIPPED, "restored"),
        (19, State.SENT, ""),
    ]
    assert gone.status is Status.UNSUBSCRIBED
    report = house.services.report(timedelta(days=4))
    assert report.missing == 0
    assert report.due == sum(report.states.values())


def test_nothing_leaves_a_database_that_is_behind(house: House, replay: Replay) -> None:
    house.now = TUESDAY
    house.subscribe(STAYS, WISHES)
    replay.today(TUESDAY.date())
    house.collect()
    house.now = TUESDAY + 8 * HOUR
    house.plan()
    with reading(house.services.engine) as connection:
        here = high_water.current(connection)
    high_water.remember(house.settings.data_dir, replace(here, mark=here.mark + 1))
    with pytest.raises(RestoredDatabase, match="digest restored --backup-time"):
        house.deliver()
    settle(house, backup_time=TUESDAY)
    house.deliver()
    assert house.sink.mails == []


def test_a_gap_of_long_ago_says_nothing_of_a_source_that_is_new(
    house: House, replay: Replay
) -> None:
    ended = TUESDAY - timedelta(days=60)
    with writing(house.services.engine) as connection:
        gaps.add(connection, Gap(start=ended - HOUR, end=ended))
    house.now = TUESDAY
    house.subscribe(STAYS, WISHES)
    live(house, replay, TUESDAY)
    assert len(house.mails(STAYS)) == 1


@pytest.mark.parametrize(("database_url", "back_up"), WAYS, indirect=["database_url"])
def test_a_copy_from_before_somebody_left_is_known_though_nothing_was_sent(
    house: House,
    replay: Replay,
    tmp_path: Path,
    back_up: Callable[[House, Path], Callable[[], None]],
) -> None:
    house.now = TUESDAY
    house.subscribe(LEAVES, WISHES)
    live(house, replay, TUESDAY)
    house.now = WEDNESDAY + 3 * HOUR
    put_back = back_up(house, tmp_path)
    house.now = WEDNESDAY + 5 * HOUR
    house.services.unsubscribe(person(house, LEAVES))
    put_back()  # which asserts that it is refused, where it was put back by hand
    live(house, replay, WEDNESDAY)
    live(house, replay, THURSDAY)
    assert len(house.mails(LEAVES)) == 1


def test_a_copy_from_before_a_plan_is_known(house: House, replay: Replay) -> None:
    house.now = TUESDAY
    house.subscribe(STAYS, WISHES)
    replay.today(TUESDAY.date())
    house.collect()
    with reading(house.services.engine) as connection:
        before = high_water.current(connection)
    house.now = TUESDAY + 8 * HOUR
    assert house.plan().digests == 1
    with writing(house.services.engine) as connection:
        connection.execute(update(schema.house).values(mark=before.mark))
    assert_refused(house)


def test_a_plan_that_stored_nothing_raises_nothing(house: House) -> None:
    house.now = TUESDAY
    with reading(house.services.engine) as connection:
        before = high_water.current(connection)
    house.plan()
    with reading(house.services.engine) as connection:
        assert high_water.current(connection) == before


def test_no_link_of_before_opens_somebody_elses_settings(
    house: House, replay: Replay, tmp_path: Path
) -> None:
    """Who came after the backup is forgotten; their id must never be another's."""
    house.now = TUESDAY
    house.subscribe(STAYS, WISHES)
    back_up = by_command if house.services.engine.name == "sqlite" else of_postgresql
    seen, mails = set[int](), set[str]()
    put_back = back_up(house, tmp_path)
    for day in (TUESDAY, WEDNESDAY):  # the same backup twice
        for address in ("bob@example.org", "carol@example.org"):
            newcomer = house.subscribe(f"{day:%d}{address}", WISHES)
            found = person(house, newcomer.key)
            assert found not in seen
            seen.add(found)
        live(house, replay, day)
        with reading(house.services.engine) as connection:
            rows = [
                f"{table.name} {found}"
                for table in (schema.digest, schema.delivery, schema.attempt)
                for found in connection.execute(select(table.c.id)).scalars()
            ]
        assert rows
        assert mails.isdisjoint(rows)
        mails.update(rows)
        house.now = day + 13 * HOUR
        if day == TUESDAY:
            put_back()


def test_a_mark_that_cannot_be_raised_holds_nobody_back(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.now = TUESDAY
    house.subscribe(STAYS, WISHES)
    path = house.settings.data_dir / high_water.FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text("spoilt")
    house.services.unsubscribe(person(house, STAYS))
    with reading(house.services.engine) as connection:
        assert subscribers.get(connection, person(house, STAYS)).status is Status.UNSUBSCRIBED
    assert "The mark of the database cannot be raised" in caplog.text


def test_nobody_waits_long_for_the_mark(house: House) -> None:
    """A worker that was stopped over it holds its row; who leaves has left by then."""
    if house.services.engine.name == "sqlite":
        pytest.skip("one lock for all there")
    house.now = TUESDAY
    house.subscribe(STAYS, WISHES)
    with writing(house.services.engine) as connection:
        high_water.rise(connection)
        house.services.unsubscribe(person(house, STAYS))
        with reading(house.services.engine) as other:
            found = subscribers.get(other, person(house, STAYS))
            assert found.status is Status.UNSUBSCRIBED


# ------------------------------------------------------------------ the journal


@pytest.mark.parametrize("kind", [Status.UNSUBSCRIBED, Status.COMPLAINED, Status.ERASED])
def test_who_left_by_the_journal_alone_gets_no_mail(
    house: House, replay: Replay, kind: Status, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash between the journal and the database, or a copy that nothing tells from it."""
    house.now = TUESDAY
    for address in (STAYS, LEAVES):
        house.subscribe(address, WISHES)
    gone = house.services.newcomer(LEAVES, WISHES).hashes
    path = house.settings.data_dir / journal.FILE
    journal.append(path, OptOut(at=TUESDAY + HOUR, kind=kind, hashes=gone))
    live(house, replay, TUESDAY)
    assert [len(house.mails(address)) for address in (STAYS, LEAVES)] == [1, 0]
    assert "knew more than the database: 1 who left" in caplog.text
    assert house.services.heed_journal() == 0


def test_the_journal_says_nothing_new_of_who_came_back_or_is_not_there(house: House) -> None:
    house.now = TUESDAY + HOUR
    house.subscribe(STAYS, WISHES)
    path = house.settings.data_dir / journal.FILE
    for address in (STAYS, "nobody@example.org"):
        hashes = house.services.newcomer(address, WISHES).hashes
        journal.append(path, OptOut(at=TUESDAY, kind=Status.UNSUBSCRIBED, hashes=hashes))
    assert house.services.heed_journal() == 0
    with reading(house.services.engine) as connection:
        assert subscribers.get(connection, person(house, STAYS)).status is Status.ACTIVE


def test_a_journal_that_is_none_does_not_stop_the_mail(
    house: House, replay: Replay, caplog: pytest.LogCaptureFixture
) -> None:
    house.now = TUESDAY
    house.subscribe(STAYS, WISHES)
    house.settings.data_dir.mkdir(exist_ok=True)
    (house.settings.data_dir / journal.FILE).write_text("email,name\n")
    live(house, replay, TUESDAY)
    assert len(house.mails(STAYS)) == 1
    assert "no entry of a journal" in caplog.text


def test_it_is_in_the_journal_before_the_database_commits(house: House) -> None:
    house.now = TUESDAY
    newcomer = house.subscribe(STAYS, WISHES)
    path = house.settings.data_dir / journal.FILE
    found: list[list[OptOut]] = []

    @event.listens_for(house.services.engine, "commit")
    def before_commit(_connection: object) -> None:
        found.append(list(journal.read(path)))

    house.services.unsubscribe(person(house, STAYS))
    entry = OptOut(at=TUESDAY, kind=Status.UNSUBSCRIBED, hashes=newcomer.hashes)
    assert found == [[entry], [entry]], "of who left, and of the mark"
    house.services.unsubscribe(person(house, STAYS))
    house.services.unsubscribe(999)
    assert list(journal.read(path)) == [entry], "who had left needs no second entry"


def test_a_journal_that_cannot_be_written_holds_nobody_back(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.now = TUESDAY
    house.subscribe(STAYS, WISHES)
    (house.settings.data_dir / journal.FILE).mkdir(parents=True)
    house.services.unsubscribe(person(house, STAYS))
    with reading(house.services.engine) as connection:
        assert subscribers.get(connection, person(house, STAYS)).status is Status.UNSUBSCRIBED
    assert "The journal of opt-outs cannot be written" in caplog.text


def test_who_is_suppressed_by_the_journal_is_not_imported(house: House) -> None:
    """They came and left after the backup; a list that is read again must not bring them back."""
    house.now = TUESDAY + HOUR
    newcomer = house.services.newcomer(STAYS, WISHES)
    left = OptOut(at=house.now, kind=Status.UNSUBSCRIBED, hashes=newcomer.hashes)
    journal.append(house.settings.data_dir / journal.FILE, left)
    settle(house, backup_time=TUESDAY)
    with writing(house.services.engine) as connection:
        assert subscribers.add_many(connection, [newcomer], now=house.now) == [Answer.BARRED]
    assert high_water.check(house.services.engine, house.settings.data_dir) is None
