"""Asking: an address is typed on a page, and what follows comes by mail, to whoever reads it.

The page's answer must be the same for known and unknown addresses, in status, body and time. So
what it waits for looks up nobody: a request is counted and kept. It is answered afterwards, and
not at all where the address had its mails of the day: that somebody with an account asked for them
would be seen otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection

from digest.models import Detail, Frequency, QuietDay, Status, Subscriber, Wishes
from digest.pipeline.accounts import mails
from digest.pipeline.accounts.base import Accounts, newcomer, settings_link, spoken
from digest.pipeline.accounts.limits import (
    SUSPICIOUS,
    Refusal,
    Refused,
    elsewhere,
    may_write,
    not_here,
    take_confirmation,
    take_network,
    take_try,
)
from digest.storage import account_mail, interests, quotas, requests, standing, subscribers
from digest.storage.database import reading, writing
from digest.storage.quotas import DAY
from digest.storage.requests import Request
from digest.suppression import address_key

log = logging.getLogger(__name__)

SUBSCRIBE, LOST_LINK, CHOICE = "subscribe", "lost link", "choice"
NOTHING = "nothing"  # what an address that had its mails of the day asked for


def answer_to(kind: str, status: Status | None) -> str:
    """Which mail answers a request, by who asked; "" for none. None is nobody we know.

    Whoever does not get digests is asked anew, why ever that is so: only they can come back.
    """
    if status in (Status.ACTIVE, Status.PAUSED):
        return "preferences"
    if kind == SUBSCRIBE or status is Status.PENDING:
        return "confirm"
    return ""


def ask(
    accounts: Accounts,
    address: str,
    *,
    locale: str,
    source: str,
    client: IPv4Address | IPv6Address,
    suspicious: bool = False,
    wishes: Wishes | None = None,
    topics: Sequence[str] = (),
    search: str = "",
    number: int | None = None,
) -> Refusal | None:
    """Take a wish to subscribe; AddressError. What is answered tells nobody who subscribes.

    `source` is the page, `wishes` and `topics` what was chosen there: they hold for somebody new,
    never for who has an account. `search` is a filter to be mailed (`interests.read_search`): who
    has an account finds it offered among their preferences. `number` is the page's own, for
    `choose`. `suspicious` is only counted: autofill is fast, too.
    """
    address = address.strip()
    key = _checked(address)
    if accounts.signup == "closed":
        return Refusal.CLOSED
    if why := elsewhere(accounts, key):
        return why
    counted = accounts.takes_mail is not None
    if counted:
        # Before the DNS is asked, for which a page waits: nobody has it asked without limit.
        try:
            with writing(accounts.engine) as connection:
                take_network(connection, accounts, client, now=accounts.clock())
        except Refused as refused:
            return refused.why
        if why := not_here(accounts, key):
            return why
    tongue = spoken(locale, otherwise=accounts.usual.locale)
    wanted = replace(wishes or accounts.usual, name="", locale=tongue)
    data = {
        "locale": tongue,
        "source": source,
        "wishes": asdict(wanted),
        "topics": [*topics],
        "search": search,
        "number": number,
    }
    return _take(
        accounts,
        SUBSCRIBE,
        address,
        key,
        data,
        client=None if counted else client,
        suspicious=suspicious,
    )


def choose(
    accounts: Accounts, number: int, *, wishes: Wishes, topics: Sequence[str]
) -> Refusal | None:
    """Keep what was chosen on the page that follows; it holds for who is new by that request.

    Like what was asked there it is looked at afterwards, and tells nobody who subscribes.
    """
    data = {"number": number, "wishes": asdict(wishes), "topics": [*topics]}
    now = accounts.clock()
    try:
        with writing(accounts.engine) as connection:
            take_try(connection, accounts, f"choice {number}", now=now)
            requests.add(connection, CHOICE, address="", key="", data=data, now=now)
    except Refused as refused:
        return refused.why
    return None


def lost_link(
    accounts: Accounts,
    address: str,
    *,
    locale: str,
    source: str,
    client: IPv4Address | IPv6Address,
    suspicious: bool = False,
) -> Refusal | None:
    """Take a wish for the link to one's settings; AddressError. The answer is as that of `ask`."""
    address = address.strip()
    key = _checked(address)
    data = {"locale": spoken(locale, otherwise=accounts.usual.locale), "source": source}
    return _take(accounts, LOST_LINK, address, key, data, client=client, suspicious=suspicious)


def _checked(address: str) -> str:
    """The key of an address that can be written to; AddressError."""
    key = address_key(address)
    mails.check(address)
    return key


def _take(
    accounts: Accounts,
    kind: str,
    address: str,
    key: str,
    data: Mapping[str, Any],
    *,
    client: IPv4Address | IPv6Address | None,  # None: counted already
    suspicious: bool,
) -> Refusal | None:
    now = accounts.clock()
    try:
        with writing(accounts.engine) as connection:
            # In this order, always: two who wait for each other would wait in vain.
            if suspicious:
                quotas.take(connection, SUSPICIOUS, window=DAY, now=now)
            if client is not None:
                take_network(connection, accounts, client, now=now)
            may = may_write(connection, accounts, key, now=now)
            if kind == SUBSCRIBE:
                take_confirmation(connection, accounts, now=now)
            # The same is written in any case: what is not would be seen in the time.
            kind = kind if may else NOTHING
            requests.add(connection, kind, address=address, key=key, data=data, now=now)
    except Refused as refused:
        return refused.why
    return None


def answer(accounts: Accounts) -> int:
    """Answer what was asked; how many. One that goes wrong stops none of the others."""
    answered = 0
    while True:
        now = accounts.clock()
        with reading(accounts.engine) as connection:
            if not requests.is_any(connection, now=now):
                return answered
        request_id = None
        try:
            with writing(accounts.engine) as connection:
                request_id = requests.due(connection, now=now)
                if request_id is None:  # others are at it
                    return answered
                request = requests.take(connection, request_id)
                if request is not None:
                    _answer(connection, accounts, request, now=now)
        except Exception:
            if request_id is None:
                raise
            log.exception("A request cannot be answered.", extra={"action": "request"})
            with writing(accounts.engine) as connection:
                requests.put_off(connection, request_id, now=now)
            continue
        answered += 1


def _answer(connection: Connection, accounts: Accounts, request: Request, *, now: datetime) -> None:
    if request.kind == NOTHING:
        return
    if request.kind == CHOICE:
        asked = account_mail.whose(connection, "confirm", _name(request))
        if asked is not None:
            standing.wish_pending(
                connection, asked, _wishes(request), topics=request.data["topics"]
            )
        return
    person = _person(connection, accounts, request, now=now)
    kind = answer_to(request.kind, person.status if person else None)
    name, locale = _name(request), str(request.data["locale"])
    if person is None or not kind:
        return
    search = str(request.data.get("search", ""))
    if kind == "preferences":
        url = settings_link(accounts, person, now=now)
        mails.send(
            connection,
            accounts,
            kind,
            name,
            to=person.address,
            person=person,
            locale=person.locale,
            url=f"{url}?{urlencode({'search': search})}" if search else url,
            now=now,
        )
        return
    if search and person.status is Status.PENDING:
        interests.follow_search(connection, person.id, search, now=now)
    if request.kind != SUBSCRIBE:  # who asked to subscribe was counted there
        try:
            take_confirmation(connection, accounts, now=now)
        except Refused:
            return
    mails.send_confirmation(
        connection,
        accounts,
        name,
        person=person,
        locale=locale,
        source=str(request.data["source"]),
        now=now,
    )


def _person(
    connection: Connection, accounts: Accounts, request: Request, *, now: datetime
) -> Subscriber | None:
    if request.kind != SUBSCRIBE:
        found = subscribers.find(connection, request.address_key)
        # Who is erased meanwhile gets no mail, and no row that names them.
        return standing.locked(connection, found.id) if found else None
    new = newcomer(accounts, request.address, _wishes(request), request.data["topics"])
    return standing.add_pending(connection, new, now=now)


def _name(request: Request) -> str:
    """What its mail is stored for: the page's number, by which a choice finds it, else its own."""
    return f"request {request.data.get('number') or request.id}"


def _wishes(request: Request) -> Wishes:
    wishes = dict(request.data["wishes"])
    for name, kind in (("frequency", Frequency), ("detail", Detail), ("quiet_day", QuietDay)):
        wishes[name] = kind(wishes[name])
    return Wishes(**wishes)
