"""Killed between any two steps of what a reader does: all of it was done or nothing, and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from sqlalchemy import event, select

from digest import schema
from digest.pipeline import accounts
from digest.pipeline.accounts import Instead
from digest.storage.database import open_database, reading
from digest.tokens import Purpose, verify
from tests.reception import BOB, SECRETS, Reception


class Killed(BaseException):
    """The process is no more (SIGKILL)."""


def asked(house: Reception) -> None:
    house.ask()


def invited(house: Reception) -> int:
    house.ask()
    house.answer()
    return house.subject("confirm")


def subscribed(house: Reception) -> int:
    return house.subscribe()


def moving(house: Reception) -> int:
    accounts.request_change(house.accounts, house.subscribe(), BOB)
    return house.subject("change-old")


def agreed(house: Reception) -> int:
    accounts.change(house.accounts, moving(house))
    return house.subject("change-new")


def leaving(house: Reception) -> int:
    accounts.request_erasure(house.accounts, house.subscribe())
    return house.subject("erase")


def left(house: Reception) -> int:
    undo = accounts.leave(house.accounts, house.subscribe()).undo
    assert undo is not None
    return verify(undo, Purpose.UNDO, secrets=SECRETS, now=house.now).subject


# What was before, and what is done then by its outcome: a link's subject, or whose it is.
FLOWS: dict[str, tuple[Callable[[Reception], Any], Callable[[Reception, Any], Any]]] = {
    "an answer": (asked, lambda house, _: house.answer()),
    "confirming": (invited, lambda house, link: house.confirm(link)),
    "one side of a change": (moving, lambda house, link: accounts.change(house.accounts, link)),
    "the other side": (agreed, lambda house, link: accounts.change(house.accounts, link)),
    "an erasure": (leaving, lambda house, link: accounts.erase_by(house.accounts, link)),
    "leaving": (subscribed, lambda house, person: accounts.leave(house.accounts, person)),
    "taking it back": (
        left,
        lambda house, link: accounts.undo(house.accounts, link, instead=Instead(weekly=True)),
    ),
}


@contextmanager
def killed(house: Reception, *, at: int) -> Iterator[None]:
    """Kill the block as it begins or commits, whichever is number `at`.

    In between the database is the same: what is not committed is as if never done.
    """
    steps = count(1)

    def step(*_: object) -> None:
        if next(steps) == at:
            raise Killed

    event.listen(house.engine, "begin", step)
    event.listen(house.engine, "commit", step)
    yield


def held(house: Reception) -> list[Any]:
    """All that is stored, but for the mark, which is raised afterwards."""
    with reading(house.engine) as connection:
        return [
            connection.execute(select(table)).all()
            for table in schema.metadata.sorted_tables
            if table is not schema.house
        ]


@pytest.mark.parametrize(("before", "act"), FLOWS.values(), ids=FLOWS)
def test_all_is_done_or_nothing(
    lite: Reception,
    tmp_path: Path,
    before: Callable[[Reception], Any],
    act: Callable[[Reception, Any], Any],
) -> None:
    lite.changes = {"welcome": True}
    link = before(lite)
    nothing = held(lite)
    path = str(lite.engine.url.database)

    def again() -> None:
        lite.engine.dispose()
        copyfile(tmp_path / "before.db", path)
        lite.engine = open_database(f"sqlite:///{path}")

    lite.engine.dispose()
    copyfile(path, tmp_path / "before.db")
    again()
    outcome = act(lite, link)
    done = held(lite)
    assert done != nothing
    for at in count(1):
        again()
        with killed(lite, at=at):
            try:
                act(lite, link)
            except Killed:
                pass
            else:
                break  # it has no more steps
        lite.engine.dispose()
        lite.engine = open_database(f"sqlite:///{path}")
        found = held(lite)
        assert found in (nothing, done), at
        assert act(lite, link) == outcome or found == done, at
        assert held(lite) == done, at
    assert at > 2
