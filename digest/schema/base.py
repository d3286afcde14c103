"""What all tables are made of: names of constraints, instants, ids, JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    TypeDecorator,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from digest.models import State, Status

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        found: datetime = value
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
# SQLite counts rows by itself only for INTEGER PRIMARY KEY.
Id = BigInteger().with_variant(Integer(), "sqlite")


def one_of(column: str, values: type[State] | type[Status]) -> CheckConstraint:
    names = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({names})", name=column)


def only_where(condition: str) -> dict[str, Any]:
    """The arguments of an index of those rows alone."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


# Tables whose ids leave the house, in links and Message-IDs, or are compared with older ones. None
# is given out again: neither when the newest row is deleted, which SQLite would do by itself, nor
# after a restore.
COUNTED = (
    *("subscriber", "digest", "account_mail", "delivery", "attempt", "alert"),
    *("consent", "ticket", "request"),
)
