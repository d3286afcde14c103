"""Receiving providers: names for the large ones, what the DNS says of the rest, and both in use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update

from digest import schema, services
from digest.configured import relays_of
from digest.errors import Busy, SettingsError
from digest.models import Limits, Status
from digest.pipeline.receivers import look_up, receivers
from digest.providers import ask, provider_named, provider_of, provider_of_host, takes_mail
from digest.settings import load
from digest.storage import domains, subscribers
from digest.storage.database import exclusive, reading, writing
from tests.desk import DAILY
from tests.dns_server import DnsServer, Trouble, dns_server
from tests.house import House

__all__ = ["dns_server"]

NOW = datetime.fromisoformat("2026-05-28T06:00Z")
DAY = timedelta(days=1)

# ------------------------------------------------------------------ names

ADDRESSES = {
    "ada@gmail.com": "google",
    "ada@GoogleMail.com": "google",
    "ada@hotmail.co.uk": "microsoft",
    "ada@yahoo.fr": "yahoo",
    "ada@yahoo.co.jp": "yahoo.co.jp",  # another company
    "ada@me.com": "apple",
    "ada@web.de": "united-internet",
    "ada@lab.example.org": "google",  # as the DNS said
    "ada@exämple.org": "xn--exmple-cua.org",
    "ada@example.com": "example.com",
}


@pytest.mark.parametrize(("address", "provider"), ADDRESSES.items(), ids=ADDRESSES)
def test_who_receives_mail_for_an_address(address: str, provider: str) -> None:
    known = {"lab.example.org": "google", "gmail.com": "example.net"}
    assert provider_of(address, known) == provider


HOSTS = {
    "aspmx.l.google.com": "google",
    "alt2.aspmx3.googlemail.com": "google",
    "example-org.mail.protection.outlook.com": "microsoft",
    "example-org.o-v1.mx.microsoft": "microsoft",
    "mta5.am0.yahoodns.net": "yahoo",
    "mx01.mail.icloud.com": "apple",
    "mx00.gmx.net": "united-internet",
    "mx.example.org": "example.org",
    "a.b.c.example.org": "example.org",
    "mail.outlook.com": "outlook.com",  # no host of theirs that takes customers' mail
    "notgoogle.com": "notgoogle.com",
    "mx.lab.example.ac.uk": "example.ac.uk",
    "mx.example.co.jp": "example.co.jp",
    "mx.abv.bg": "abv.bg",
    "localhost": "",
    "192.0.2.1": "",
    r"a\032b.example.org": "",
}


@pytest.mark.parametrize(("host", "provider"), HOSTS.items(), ids=HOSTS)
def test_whose_host_it_is(host: str, provider: str) -> None:
    assert provider_of_host(host) == provider


# ------------------------------------------------------------------ asking the DNS

ANSWERS: dict[str, tuple[Sequence[str] | Trouble, str | None]] = {
    "one host": (["10 aspmx.l.google.com."], "google"),
    "the lowest preference is the best": (
        ["20 mx.example.net.", "5 mx.example.com.", "10 aspmx.l.google.com."],
        "example.com",
    ),
    "of equal ones always the same": (["10 mx.b.example.", "10 mx.a.example."], "a.example"),
    "in capital letters": (["10 ASPMX.L.GOOGLE.COM."], "google"),
    "it takes no mail": (["0 ."], ""),  # RFC 7505
    "it has no such host": ([], ""),
    "a host that is an address": (["10 192.0.2.1."], ""),
    "no such domain": (Trouble.NO_SUCH_NAME, ""),
    "its servers fail": (Trouble.FAILURE, None),
    "its servers are silent": (Trouble.SILENCE, None),
}


@pytest.mark.parametrize(("said", "provider"), ANSWERS.values(), ids=ANSWERS)
def test_what_the_dns_says(
    said: Sequence[str] | Trouble,
    provider: str | None,
    dns_server: DnsServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("digest.providers.PATIENCE", 0.3)
    dns_server.mx["lab.example.org"] = said
    assert ask(dns_server.resolver, "lab.example.org") == provider
    assert dns_server.asked["lab.example.org"] >= 1


@pytest.mark.parametrize(
    ("said", "host", "takes"),
    [
        (["10 mx.example.org."], False, True),
        (["0 ."], True, False),  # RFC 7505
        ([], True, True),  # it takes its mail itself
        ([], False, False),
        (Trouble.NO_SUCH_NAME, False, False),
        (Trouble.FAILURE, False, True),  # nobody knows
    ],
    ids=["hosts", "null", "an address", "nothing", "no name", "failure"],
)
def test_whether_a_domain_takes_mail(
    said: Sequence[str] | Trouble, host: bool, takes: bool, dns_server: DnsServer
) -> None:
    dns_server.mx["lab.example.org"] = said
    if host:
        dns_server.hosts.add("lab.example.org")
    assert takes_mail(dns_server.resolver, "lab.example.org") is takes


def test_a_domain_that_cannot_be_asked_about_is_no_error(dns_server: DnsServer) -> None:
    assert ask(dns_server.resolver, f"{'a' * 64}.example.org") is None
    assert not dns_server.asked


# ------------------------------------------------------------------ looking up


@dataclass(slots=True)
class Exchange:
    """Subscribers at domains, and the DNS that is asked about these."""

    engine: Engine
    dns: DnsServer
    locks: Path
    now: datetime = NOW

    def move_in(self, *addresses: str, status: Status = Status.ACTIVE) -> None:
        with writing(self.engine) as connection:
            connection.execute(
                insert(schema.subscriber),
                [
                    {
                        **dict.fromkeys(("address", "address_key", "address_hash"), address),
                        "name": "",
                        "zone": "UTC",
                        "hour": 8,
                        "frequency": DAILY.frequency,
                        "max_papers": 5,
                        "locale": "en",
                        "status": status,
                        "created_at": NOW,
                    }
                    for address in addresses
                ],
            )

    def look_up(self, **more: Any) -> int:
        """What a run stored."""
        stopping = more.pop("stopping", threading.Event())
        return look_up(
            self.engine,
            self.dns.resolver,
            locks=self.locks,
            stopping=stopping,
            now=self.now,
            **more,
        )

    def asked(self) -> set[str]:
        """What the DNS was asked about since the last time."""
        found = set(self.dns.asked)
        self.dns.asked.clear()
        return found

    def known(self) -> dict[str, str]:
        with reading(self.engine) as connection:
            return domains.known(connection)

    def stored(self) -> set[str]:
        with reading(self.engine) as connection:
            return set(connection.execute(select(schema.domain.c.name)).scalars())


@pytest.fixture
def exchange(
    engine: Engine, dns_server: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Exchange:
    monkeypatch.setattr("digest.providers.PATIENCE", 0.3)
    dns_server.mx |= {
        "lab.example": ["10 aspmx.l.google.com."],
        "firm.example": ["10 firm-example.mail.protection.outlook.com."],
        "own.example": ["10 mx.own.example."],
        "deaf.example": ["0 ."],
    }
    return Exchange(engine, dns_server, tmp_path / "locks")


def test_subscribers_domains_are_asked_about_once_a_week(exchange: Exchange) -> None:
    exchange.move_in("a@lab.example", "b@lab.example", "c@own.example", "d@deaf.example")
    exchange.move_in("e@gmail.com")  # known without asking
    exchange.move_in("f@left.example", status=Status.UNSUBSCRIBED)
    assert exchange.look_up() == 3
    assert exchange.asked() == {"lab.example", "own.example", "deaf.example"}
    assert exchange.known() == {"lab.example": "google"}
    assert exchange.look_up() == 0
    exchange.move_in("g@firm.example")
    assert (exchange.look_up(), exchange.asked()) == (1, {"firm.example"})
    assert exchange.known() == {"lab.example": "google", "firm.example": "microsoft"}
    # What nobody takes mail for may be mended by tomorrow; others move seldom.
    exchange.now += DAY
    assert (exchange.look_up(), exchange.asked()) == (1, {"deaf.example"})
    exchange.dns.mx["lab.example"] = ["10 mx.lab.example."]
    exchange.now += 6 * DAY
    assert exchange.look_up() == 4
    assert exchange.known() == {"firm.example": "microsoft"}


def test_what_fails_keeps_what_was_known(exchange: Exchange) -> None:
    exchange.move_in("a@lab.example", "b@own.example", "c@new.example")
    exchange.look_up()
    exchange.now += 8 * DAY
    exchange.dns.mx |= {"lab.example": Trouble.SILENCE, "new.example": Trouble.FAILURE}
    assert exchange.look_up() == 3
    assert exchange.known() == {"lab.example": "google"}
    exchange.asked()
    exchange.now += 2 * DAY  # what was never answered is asked about again on the next day
    assert (exchange.look_up(), exchange.asked()) == (0, {"new.example"})


def test_a_dns_that_is_away_teaches_nothing(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    exchange.move_in("a@lab.example", "b@own.example")
    exchange.dns.all_silent = True
    assert exchange.look_up() == 0
    assert "The DNS does not answer" in caplog.text
    assert "example" not in caplog.text
    assert not exchange.stored()
    exchange.dns.all_silent = False
    assert exchange.look_up() == 2


def test_a_run_is_bounded_and_the_next_one_goes_on(exchange: Exchange) -> None:
    exchange.move_in("a@lab.example", "b@own.example", "c@firm.example")
    assert exchange.look_up(most=2) == 2
    assert len(exchange.asked()) == 2
    assert exchange.look_up(most=2) == 1
    assert exchange.stored() == {"lab.example", "own.example", "firm.example"}


def test_who_ends_asks_no_more(exchange: Exchange) -> None:
    exchange.move_in("a@lab.example")
    stopping = threading.Event()
    stopping.set()
    assert exchange.look_up(stopping=stopping) == 0
    assert not exchange.asked()
    assert not exchange.stored()


def test_one_process_asks_at_a_time(exchange: Exchange) -> None:
    with exclusive(exchange.engine, "look-up", exchange.locks), pytest.raises(Busy):
        exchange.look_up()


def test_planning_asks_the_table_once(exchange: Exchange) -> None:
    exchange.move_in("a@lab.example")
    exchange.look_up()
    provider = receivers(exchange.engine)
    assert provider("a@lab.example") == "google"
    with writing(exchange.engine) as connection:
        connection.execute(update(schema.domain).values(provider="apple"))
    assert provider("b@lab.example") == "google"
    assert receivers(exchange.engine)("b@lab.example") == "apple"


# ------------------------------------------------------------------ in the house


@pytest.mark.parametrize("lookups", [True, False], ids=["with the DNS", "without"])
def test_a_planned_digest_knows_its_receiver(
    house: House, dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch, lookups: bool
) -> None:
    dns_server.mx["lab.example.org"] = ["10 aspmx.l.google.com."]
    monkeypatch.setattr(services, "system_resolver", lambda: dns_server.resolver)
    changed = house.settings.model_copy(update={"mx_lookups": lookups})
    house.services = replace(house.services, settings=changed)
    house.now = NOW
    for name in ("ada@lab.example.org", "bob@gmail.com"):
        house.subscribe(name, DAILY)
    assert house.services.look_up_domains() == lookups
    house.now += 3 * timedelta(hours=1)
    house.plan()
    with reading(house.services.engine) as connection:
        table = schema.delivery
        rows = connection.execute(select(table.c.address, table.c.provider)).all()
    found = {row.address: row.provider for row in rows}
    assert found == {
        "ada@lab.example.org": "google" if lookups else "lab.example.org",
        "bob@gmail.com": "google",
    }


def test_nothing_is_asked_where_no_mail_leaves(
    tmp_path: Path, dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "system_resolver", lambda: dns_server.resolver)
    found = services.build(load({"DIGEST_DATA_DIR": str(tmp_path)}, None))
    newcomer = found.newcomer("ada@lab.example.org", DAILY)
    with writing(found.engine) as connection:
        subscribers.add_many(connection, [newcomer], now=NOW)
    assert found.look_up_domains() == 0
    assert not dns_server.asked
    found.engine.dispose()


def _relays(limits: str) -> Any:
    named = {
        "DIGEST_RELAYS": "smtp://one.example.org smtp://two.example.org",
        "DIGEST_SENDER_ADDRESS": "digest@example.org",
        "DIGEST_PROVIDER_LIMITS": limits,
    }
    return relays_of(load(named, None))


def test_limits_are_found_by_the_names_in_the_ledger() -> None:
    one, two = _relays("GMail.com:rate=20 microsoft:connections=2 exämple.org:daily=9 *:rate=5")
    assert one.providers == two.providers
    limits: Callable[[str], Limits] = one.limits_of
    assert limits("google") == Limits(rate=20)
    assert limits("microsoft") == Limits(connections=2)
    assert limits("xn--exmple-cua.org") == Limits(daily=9)
    assert limits("example.com") == Limits(rate=5)


WRONG_PROVIDERS = {
    "a name that nobody has": ("gogle:rate=5", "gogle is no receiving provider: write apple, "),
    "one provider by two names": ("google:rate=5 gmail.com:rate=6", "gmail.com is google, which"),
    "by two of its domains": ("gmx.de:rate=5 web.de:rate=6", "web.de is united-internet, which"),
}


@pytest.mark.parametrize(("limits", "words"), WRONG_PROVIDERS.values(), ids=WRONG_PROVIDERS)
def test_a_provider_that_is_none_is_told(limits: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _relays(limits)
    assert f"DIGEST_PROVIDER_LIMITS: {words}" in str(caught.value)
    assert provider_named("google") == "google"
