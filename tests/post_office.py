"""A ledger for tests: people with frozen digests, account mails, and a Postman to deliver them.

Run as a program it is the delivering process that a test may kill: it delivers until nothing that
is due is left.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, update

from digest import schema
from digest.delivery import Server
from digest.errors import Busy
from digest.message import freeze, head, message_id
from digest.models import (
    Frequency,
    Item,
    Limits,
    Newcomer,
    Part,
    Schedule,
    Site,
    Slot,
    State,
    Wishes,
)
from digest.pipeline.bookkeeping import LocalBooks
from digest.pipeline.books import Policy, Relay
from digest.pipeline.composing import Composer
from digest.pipeline.delivering import Postman
from digest.rendering import Assembler
from digest.storage import digests, outcomes, subscribers
from digest.storage.database import open_database, reading, writing
from digest.storage.digests import Frozen
from digest.suppression import address_hashes, address_key

NOW = datetime(2026, 5, 28, 6, tzinfo=UTC)
DAY = timedelta(days=1)
POLICY = Policy(retry=[timedelta(minutes=step) for step in (5, 15, 30)])
SECRETS = (b"k" * 32,)
SITE = Site(
    name="Paper Digest",
    base_url="https://digest.example.org",
    sender_address="digest@example.org",
    list_id="digest.example.org",
)
SKELETON = Part(
    hash="5" * 64,
    kind="skeleton",
    head=head(SITE),
    html=b"<html><body><p>@@lead@@</p>@@cards@@</body></html>",
    text=b"@@lead@@\n\n@@cards@@\n",
)
ITEM = Item(paper_id=1, score=0.5, reasons=())
CARD = Part(hash="c" * 64, kind="card", html=b"<p>A card</p>", text=b"A card")
WAITING = (State.PLANNED, State.CLAIMED, State.SENDING, State.DEFERRED)
HELD = (State.CLAIMED, State.SENDING)


def address_of(number: int) -> str:
    return f"reader{number}@example.org"


@dataclass(slots=True)
class PostOffice:
    """A database with people in it; `now` is the business clock."""

    engine: Engine
    folder: Path
    now: datetime = NOW
    people: list[int] = field(default_factory=list)  # subscribers' ids

    def move_in(self, count: int) -> None:
        """`count` more people, active for a week, due daily at the hour of NOW."""
        wishes = Wishes(zone="UTC", hour=NOW.hour, frequency=Frequency.DAILY, max_papers=5)
        newcomers = []
        for number in range(len(self.people), len(self.people) + count):
            key = address_key(address_of(number))
            newcomers.append(
                Newcomer(
                    address=address_of(number),
                    key=key,
                    hashes=address_hashes(key, secrets=SECRETS),
                    wishes=wishes,
                )
            )
        with writing(self.engine) as connection:
            subscribers.add_many(connection, newcomers, now=NOW - 7 * DAY)
            table = schema.subscriber
            self.people = list(
                connection.execute(select(table.c.id).order_by(table.c.id)).scalars()
            )

    def plan(
        self, *people: int, due: datetime = NOW, give_up: timedelta = DAY, reason: str = ""
    ) -> None:
        """Freeze a digest for these people, all by default; with a reason an empty one."""
        with writing(self.engine) as connection:
            digests.add_parts(connection, [SKELETON, CARD], now=self.now)
            for subscriber in subscribers.select_by_id(connection, people or self.people):
                items = () if reason else (digests.item_row(ITEM),)
                frozen = Frozen(
                    subscriber=subscriber,
                    slot=_slot(due),
                    provider=subscriber.address.partition("@")[2],
                    give_up_at=due + give_up,
                    paper_ids=() if reason else (ITEM.paper_id,),
                    items=items,
                    reason=reason,
                    skeleton=SKELETON.hash,
                    parts="" if reason else digests.names_of([(CARD.hash, True)]),
                    personal=_personal(subscriber.address, "digest", f"{subscriber.id}:{due}"),
                )
                digests.freeze(connection, [frozen], now=self.now)

    def account_mail(self, subscriber_id: int, *, request: str = "1") -> int:
        """A mail that somebody asked for, as it will be stored; the delivery's id."""
        with writing(self.engine) as connection:
            digests.add_parts(connection, [SKELETON], now=self.now)
            [subscriber] = subscribers.select_by_id(connection, [subscriber_id])
            mail_id = connection.execute(
                insert(schema.account_mail)
                .values(
                    kind="confirm",
                    request=request,
                    subscriber_id=subscriber_id,
                    skeleton=SKELETON.hash,
                    personal=_personal(subscriber.address, "confirm", request),
                    created_at=self.now,
                )
                .returning(schema.account_mail.c.id)
            ).scalar_one()
            delivery_id: int = connection.execute(
                insert(schema.delivery)
                .values(
                    account_mail_id=mail_id,
                    subscriber_id=subscriber_id,
                    priority=0,
                    address=subscriber.address,
                    provider="example.org",
                    state=State.PLANNED,
                    reason="",
                    due_at=self.now,
                    next_attempt_at=self.now,
                    give_up_at=self.now + DAY,
                    attempts=0,
                    losses=0,
                    crashes=0,
                    claim=0,
                    text="",
                )
                .returning(schema.delivery.c.id)
            ).scalar_one()
        return delivery_id

    def relay(self, port: int, *, connections: int = 1, **more: Any) -> Relay:
        """A mail server on this machine; `server` and what a Relay has may be said otherwise."""
        server = Server(host="127.0.0.1", port=port, tls="none", timeout=10, final_timeout=20)
        server = replace(server, **more.pop("server", {}))
        limits = Limits(connections=connections, **more.pop("limits", {}))
        return Relay(server=server, limits=limits, **more)

    def postman(self, *ports: int, policy: Policy | None = None, **more: Any) -> Postman:
        """What delivers over the mail servers at these ports."""
        own = {name: more.pop(name) for name in ("composer", "clock") if name in more}
        return self.postman_of([self.relay(port, **more) for port in ports], policy=policy, **own)

    def postman_of(
        self,
        relays: Sequence[Relay],
        *,
        books: LocalBooks | None = None,
        keeping: type[LocalBooks] = LocalBooks,
        policy: Policy | None = None,
        composer: Composer | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> Postman:
        """What delivers over these mail servers, by these books or by new ones."""
        policy, clock = policy or POLICY, clock or (lambda: self.now)
        books = books or keeping(
            self.engine, relays, policy, clock=clock, locks=self.folder / "locks"
        )
        return Postman(
            self.engine,
            books,
            relays,
            composer=composer or Assembler(),
            policy=policy,
            clock=clock,
        )

    def change(self, subscriber_id: int, **values: Any) -> None:
        table = schema.subscriber
        with writing(self.engine) as connection:
            connection.execute(update(table).where(table.c.id == subscriber_id).values(values))

    def suppress(self, subscriber_id: int, reason: str) -> None:
        people, barred = schema.subscriber, schema.suppression
        with writing(self.engine) as connection:
            found = select(people.c.address_hash).where(people.c.id == subscriber_id)
            connection.execute(
                insert(barred).values(
                    address_hash=found.scalar_subquery(), reason=reason, detail="", since=self.now
                )
            )

    def rows(self) -> list[Mapping[str, Any]]:
        """All deliveries in the order in which they were made."""
        with reading(self.engine) as connection:
            return rows(connection)

    def attempts(self) -> list[Mapping[str, Any]]:
        with reading(self.engine) as connection:
            table = schema.attempt
            return [dict(row) for row in connection.execute(select(table)).mappings()]

    def states(self) -> dict[State, int]:
        """How many deliveries stand in each state that has any."""
        return dict(Counter(State(row["state"]) for row in self.rows()))

    def check(self) -> None:
        """Whatever happened, this is true of a ledger."""
        with reading(self.engine) as connection:
            assert_sound(connection)


def rows(connection: Connection) -> list[Mapping[str, Any]]:
    table = schema.delivery
    return [dict(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]


def assert_sound(connection: Connection) -> None:
    """Invariant 2, and what each state says about the rest of its row and about the attempts."""
    found = rows(connection)
    far = (NOW - 1000 * DAY, NOW + 1000 * DAY)
    counted = Counter[State]()
    for account in (False, True):
        counted.update(outcomes.counts(connection, start=far[0], end=far[1], account=account))
    due = connection.execute(select(func.count()).select_from(schema.digest)).scalar_one()
    due += connection.execute(select(func.count()).select_from(schema.account_mail)).scalar_one()
    assert counted.total() == len(found) == due
    begun: dict[int, list[Mapping[str, Any]]] = {row["id"]: [] for row in found}
    for attempt in connection.execute(
        select(schema.attempt).order_by(schema.attempt.c.claim)
    ).mappings():
        begun[attempt["delivery_id"]].append(dict(attempt))
    for row in found:
        state, tried = State(row["state"]), begun[row["id"]]
        assert (row["worker_id"] is not None) == (state in HELD), row
        assert (row["ended_at"] is not None) == (state not in WAITING), row
        assert len(tried) <= row["claim"], row
        assert row["attempts"] <= len(tried) + (row["reason"] == "poison"), row
        if state in (State.FAILED, State.SKIPPED, State.UNKNOWN):
            assert row["reason"], row
        if state is State.SENDING:
            assert row["started_at"], row
            assert row["claim"] not in [one["claim"] for one in tried], row
        if state in (State.SENT, State.UNKNOWN):
            assert tried, row
            assert tried[-1]["outcome"] == state, row
        if state is State.SKIPPED and row["reason"] == "superseded":
            assert row["attempts"] == 0


def _slot(due: datetime) -> Slot:
    day: date = due.date()
    schedule = Schedule(since=NOW - 7 * DAY, zone="UTC", hour=due.hour, frequency=Frequency.DAILY)
    return Slot(date=day, due_at=due, schedule=schedule)


def _personal(address: str, kind: str, key: str) -> dict[str, str]:
    frozen = freeze(
        name="",
        address=address,
        date=NOW,
        message_id=message_id(kind, key, sender_address=SITE.sender_address),
    )
    return {
        **frozen,
        "subject": f"Your {kind}",
        "lead": f"For {address}",
        "unsubscribe_url": "" if kind == "confirm" else f"{SITE.base_url}/u/{'u' * 40}",
    }


def main(arguments: Sequence[str]) -> None:
    url, port, folder, connections = arguments
    office = PostOffice(open_database(url), Path(folder))
    postman = office.postman(int(port), connections=int(connections))
    while True:
        try:
            delivered = postman.deliver()
        except Busy:  # the one that was killed is not quite dead yet
            time.sleep(0.02)
        else:
            assert not delivered.problem, delivered.problem
            return


if __name__ == "__main__":
    main(sys.argv[1:])
