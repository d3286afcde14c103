"""What the ledger says, as the harness reads it while others write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from digest import schema
from digest.models import State
from digest.storage.database import reading
from tests.chaos.verdict import WAITING, Key, Row


@dataclass(frozen=True, slots=True)
class Ledger:
    """A campaign's database."""

    engine: Engine

    def states(self) -> Counter[State]:
        table = schema.delivery
        with reading(self.engine) as connection:
            found = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
            return Counter({State(state): count for state, count in found})

    def waiting(self) -> int:
        states = self.states()
        return sum(states[state] for state in WAITING)

    def held_by(self, pid: int) -> Counter[State]:
        """The rows that a process has claimed or is sending."""
        table, workers = schema.delivery, schema.worker
        with reading(self.engine) as connection:
            found = connection.execute(
                select(table.c.state, func.count())
                .join(workers, workers.c.id == table.c.worker_id)
                .where(workers.c.pid == pid)
                .group_by(table.c.state)
            )
            return Counter({State(state): count for state, count in found})

    def unknowns_of(self, pid: int) -> int:
        """How many attempts of a process ended `unknown`."""
        table, workers = schema.attempt, schema.worker
        with reading(self.engine) as connection:
            return connection.execute(
                select(func.count())
                .select_from(table)
                .join(workers, workers.c.id == table.c.worker_id)
                .where(workers.c.pid == pid, table.c.outcome == State.UNKNOWN)
            ).scalar_one()

    def is_listed(self, pid: int) -> bool:
        """Whether a process is on the list of workers, and nobody took it off."""
        table = schema.worker
        with reading(self.engine) as connection:
            found = select(table.c.id).where(table.c.pid == pid, table.c.stopped_at.is_(None))
            return connection.execute(found).first() is not None

    def rows(self) -> dict[Key, Row]:
        """Every digest's delivery."""
        deliveries, digests, attempts = schema.delivery, schema.digest, schema.attempt
        unknowns = (
            select(func.count())
            .where(attempts.c.delivery_id == deliveries.c.id, attempts.c.outcome == State.UNKNOWN)
            .scalar_subquery()
        )
        with reading(self.engine) as connection:
            found = connection.execute(
                select(deliveries.c.address, digests.c.slot, deliveries.c.state, unknowns).join(
                    digests, digests.c.id == deliveries.c.digest_id
                )
            )
            return {
                (address, slot.isoformat()): Row(state=State(state), unknowns=count)
                for address, slot, state, count in found
            }
