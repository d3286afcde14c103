"""Which receiving provider answers for a domain, as the DNS said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from digest import schema
from digest.models import Status
from digest.storage.database import insert_into

FRESH = timedelta(days=7)
FRESH_IF_NONE = timedelta(days=1)  # for a domain of which the DNS said that nobody takes its mail


def known(connection: Connection) -> dict[str, str]:
    """The domains that somebody else receives mail for, and who."""
    table = schema.domain
    rows = connection.execute(
        select(table.c.name, table.c.provider).where(
            table.c.provider.not_in(("", table.c.name)),
        )
    )
    return {row.name: row.provider for row in rows}


def to_ask(
    connection: Connection, *, now: datetime, but_for: Collection[str], limit: int
) -> dict[str, str]:
    """Subscribers' domains to ask the DNS about, with what was known of each ("" for nothing).

    Any `limit` of them: what fails again and again must not keep the others waiting.
    """
    table, people = schema.domain, schema.subscriber
    name = _of_people(connection)
    used = select(name.label("name")).where(people.c.status == Status.ACTIVE).distinct().subquery()
    old = or_(
        table.c.looked_up_at <= now - FRESH,
        and_(table.c.provider == "", table.c.looked_up_at <= now - FRESH_IF_NONE),
    )
    rows = connection.execute(
        select(used.c.name, func.coalesce(table.c.provider, "").label("provider"))
        .outerjoin(table, table.c.name == used.c.name)
        .where(used.c.name.not_in(but_for), or_(table.c.name.is_(None), old))
        .order_by(func.random())
        .limit(limit)
    )
    return {row.name: row.provider for row in rows}


def at_home(connection: Connection, names: Collection[str]) -> set[str]:
    """Those of the domains at which a subscriber has their address. Reads all subscribers."""
    name = _of_people(connection)
    return set(connection.execute(select(name).where(name.in_(names)).distinct()).scalars())


def _of_people(connection: Connection) -> ColumnElement[str]:
    """The domain of a subscriber's address."""
    key = schema.subscriber.c.address_key
    if connection.dialect.name == "postgresql":
        return func.split_part(key, "@", 2)
    return func.substr(key, func.instr(key, "@") + 1)


def store(connection: Connection, found: Mapping[str, str], *, now: datetime) -> None:
    """Remember who receives mail for these domains, "" for nobody."""
    statement = insert_into(connection.dialect.name, schema.domain)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "provider": statement.excluded.provider,
                "looked_up_at": statement.excluded.looked_up_at,
            },
        ),
        [
            {"name": name, "provider": provider, "looked_up_at": now}
            for name, provider in found.items()
        ],
    )
