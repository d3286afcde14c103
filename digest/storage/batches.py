"""Batches of subscribers: who may plan for them, and how statements are told whom they are about.

Planning is serial for one subscriber, so that no two digests of theirs hold the same paper. SQLite
has one planner. On PostgreSQL there may be many, on many machines: each locks the subscribers of a
batch until their digests are stored, and leaves out those that others have locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import BigInteger, Connection, Engine, Subquery, bindparam

from digest.storage.database import exclusive, given, packed, reading, writing


def planner(engine: Engine, locks: Path) -> AbstractContextManager[None]:
    """The right to plan; Busy on SQLite while another process does."""
    if engine.dialect.name == "postgresql":
        return nullcontext()
    return exclusive(engine, "plan", locks)


@contextmanager
def batch(engine: Engine) -> Iterator[tuple[Connection, AbstractContextManager[Connection]]]:
    """A transaction to read a batch in, and the one to store it in.

    On PostgreSQL they are one, which holds the locks. On SQLite writing waits until all is made:
    nobody else can write meanwhile.
    """
    if engine.dialect.name == "postgresql":
        with writing(engine) as connection:
            yield connection, nullcontext(connection)
    else:
        with reading(engine) as connection:
            yield connection, writing(engine)


def people_of(dialect: str) -> Subquery:
    """The subscribers that a statement is about, as a table; its parameter `ids` is a `listing`.

    A list in the statement itself would be another statement for each number of them.
    """
    return given(dialect, bindparam("ids"), id=BigInteger())


def listing(subscriber_ids: Iterable[int]) -> str:
    """The subscribers as `people_of` takes them."""
    return packed([subscriber_id] for subscriber_id in subscriber_ids)
