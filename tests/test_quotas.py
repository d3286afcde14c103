"""Limits: right over several processes, kept without an address, and forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_address
from threading import Barrier

import pytest
from sqlalchemy import select

from digest import schema
from digest.pipeline.accounts import Limits, Refusal
from digest.pipeline.accounts.asking import NOTHING, SUBSCRIBE
from digest.pipeline.accounts.limits import CONFIRMATION
from digest.pipeline.alerting import Watch, watch
from digest.storage import alerts, quotas
from digest.storage.database import reading, writing
from digest.storage.forgetting import forget_asking
from digest.storage.quotas import DAY, HOUR
from tests.desk import SITE
from tests.reception import ADA, BOB, Reception
from tests.rows import NOW, Rows

THREADS = 8


def take(rows: Rows, key: str = "", *, limit: int = 3, at: timedelta = timedelta()) -> bool:
    with writing(rows.engine) as connection:
        return quotas.take(connection, "x", key, window=HOUR, now=NOW + at, limit=limit)


def test_a_window_has_its_limit_and_the_next_one_its_own(rows: Rows) -> None:
    assert [take(rows) for _ in range(5)] == [True] * 3 + [False] * 2
    assert take(rows, "other")
    assert not take(rows, at=HOUR - timedelta(microseconds=1))
    assert take(rows, at=HOUR)
    with reading(rows.engine) as connection:
        assert quotas.most(connection, "x", window=HOUR, now=NOW + HOUR) == 3
        assert quotas.most(connection, "x", window=HOUR, now=NOW + 2 * HOUR) == 1
        assert quotas.most(connection, "y", window=HOUR, now=NOW) == 0


def test_never_more_than_the_limit_however_many_ask_at_once(rows: Rows) -> None:
    together = Barrier(THREADS)

    def ask(_: int) -> int:
        together.wait()
        return sum(take(rows, limit=20) for _ in range(8))

    with ThreadPoolExecutor(THREADS) as threads:
        assert sum(threads.map(ask, range(THREADS))) == 20
    assert [row["count"] for row in rows.all(schema.quota)] == [20]


def test_requests_at_once_are_never_more_than_all_limits_allow(reception: Reception) -> None:
    """Many threads, several addresses and networks, in no order: nobody waits for ever, either."""
    reception.changes = {
        "limits": Limits(account_mails_daily=3, signups_hourly=10, confirmations_hourly=15)
    }
    together = Barrier(THREADS)

    def ask(thread: int) -> list[Refusal | None]:
        together.wait()
        return [
            reception.ask(
                f"reader{(thread * 5 + n * 3) % 7}@example.org",
                client=ip_address(f"192.0.{n % 3}.{thread}"),
            )
            for n in range(8)
        ]

    with ThreadPoolExecutor(THREADS) as threads:
        answers = [answer for found in threads.map(ask, range(THREADS)) for answer in found]
    assert answers.count(None) == 15
    with reading(reception.engine) as connection:
        found = list(connection.execute(schema.quota.select()).mappings())
        kinds = connection.execute(select(schema.request.c.kind)).scalars().all()
    most = {"address": 3, "network": 10, CONFIRMATION: 15}
    assert all(row["count"] <= most[row["kind"]] for row in found)
    mails = sum(row["count"] for row in found if row["kind"] == "address")
    assert mails == kinds.count(SUBSCRIBE) == 15 - kinds.count(NOTHING)


def test_requests_are_answered_once_by_however_many(reception: Reception) -> None:
    for number in range(12):
        reception.ask(f"reader{number}@example.org")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: reception.answer(), range(4)))
    reception.answer()
    assert sorted(reception.kinds()) == sorted(
        ("confirm", f"reader{number}@example.org") for number in range(12)
    )


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("192.0.2.1", "192.0.2.255", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ],
)
def test_what_one_network_is(lite: Reception, one: str, other: str, shared: bool) -> None:
    lite.changes = {
        "limits": Limits(account_mails_daily=9, signups_hourly=1, confirmations_hourly=9)
    }
    assert lite.ask(client=ip_address(one)) is None
    assert lite.lose(BOB, client=ip_address(other)) == (Refusal.NETWORK if shared else None)


def test_who_is_refused_uses_up_nothing(lite: Reception) -> None:
    lite.changes = {
        "limits": Limits(account_mails_daily=1, signups_hourly=3, confirmations_hourly=2)
    }
    answers = [lite.ask(), lite.ask(BOB), lite.ask("carol@example.org")]
    assert answers == [None, None, Refusal.BUSY]
    assert lite.lose("carol@example.org") is None  # a lost link is no confirmation


def test_an_address_that_had_its_mails_is_answered_as_any(lite: Reception) -> None:
    """Whoever has an account has mails of their own doing: a refusal would tell of them."""
    lite.changes = {
        "limits": Limits(account_mails_daily=1, signups_hourly=5, confirmations_hourly=3)
    }
    assert [lite.ask(), lite.ask(), lite.lose(), lite.ask(BOB)] == [None] * 4
    assert lite.answer() == 4
    assert lite.kinds() == [("confirm", ADA), ("confirm", BOB)]
    # It is counted as any, too, or the next answer would tell.
    assert lite.ask("carol@example.org") is Refusal.BUSY
    assert [lite.lose("dave@example.org"), lite.lose()] == [None, Refusal.NETWORK]


def test_nobody_has_the_dns_asked_more_often_than_they_may_ask(lite: Reception) -> None:
    asked: list[str] = []

    def takes_mail(domain: str) -> bool:
        asked.append(domain)
        return domain == "example.org"

    lite.changes = {
        "limits": Limits(account_mails_daily=9, signups_hourly=3, confirmations_hourly=9),
        "takes_mail": takes_mail,
    }
    answers = [lite.ask(f"a@{n}.example.net") for n in range(2)] + [lite.ask(), lite.ask(BOB)]
    assert answers == [Refusal.NO_MAIL, Refusal.NO_MAIL, None, Refusal.NETWORK]
    assert asked == ["0.example.net", "1.example.net", "example.org"]


def test_a_lost_link_of_somebody_pending_counts_as_a_confirmation(lite: Reception) -> None:
    lite.changes = {
        "limits": Limits(account_mails_daily=9, signups_hourly=9, confirmations_hourly=1)
    }
    lite.ask()
    lite.answer()
    assert lite.lose() is None
    assert lite.answer() == 1
    assert lite.kinds() == [("confirm", ADA)]


def test_the_operator_is_told_when_nobody_can_sign_up(reception: Reception) -> None:
    reception.changes = {
        "limits": Limits(account_mails_daily=9, signups_hourly=9, confirmations_hourly=2)
    }
    watching = Watch(late_after=HOUR, sources=(), confirmations=2)
    locks = reception.data_dir / "locks"

    def told() -> list[tuple[str, str]]:
        watch(reception.engine, watching, site=SITE, locks=locks, now=reception.now)
        with reading(reception.engine) as connection:
            return [(alert.kind, alert.text) for alert in alerts.current(connection)]

    assert reception.ask(suspicious=True) is None
    assert told() == []
    assert [reception.ask(BOB), reception.ask(BOB)] == [None, Refusal.BUSY]
    [(kind, text)] = told()
    assert kind == "signups"
    assert "2 in an hour; 1 in a day came faster than people type" in text
    assert "@" not in text
    reception.later(hours=1)
    assert len(told()) == 1  # one matter, not one an hour
    reception.later(hours=1)
    assert told() == []


def test_suspicion_is_counted_and_refuses_nobody(lite: Reception) -> None:
    assert [lite.ask(suspicious=True), lite.lose(BOB, suspicious=True), lite.ask(BOB)] == [None] * 3
    with reading(lite.engine) as connection:
        assert quotas.most(connection, "suspicious", window=DAY, now=lite.now) == 2


def test_what_was_counted_is_forgotten(reception: Reception) -> None:
    reception.ask()
    reception.later(days=3)
    reception.ask(BOB)
    before = reception.now - 2 * DAY
    assert forget_asking(reception.engine, before=before) == {
        "quotas": 3,
        "requests": 1,
        "tickets": 0,
    }
    assert (reception.counts()["quota"], reception.counts()["request"]) == (3, 1)
