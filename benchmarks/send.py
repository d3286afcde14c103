"""Send: a digest for each subscriber planned, frozen, and delivered over SMTP, ledger and all.

The baseline is the usual way: for each mail Jinja2, premailer, EmailMessage, and one smtplib
connection for all. It gets the choice of papers for nothing and writes no ledger.
"""

from __future__ import annotations

import logging
import smtplib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from premailer import Premailer
from sqlalchemy import select

from benchmarks.measuring import Row, Took, clock, interleave, measure, timed
from benchmarks.surroundings import (
    ABSENT,
    KINDS,
    NOW,
    Received,
    Sink,
    databases,
    house,
    replay,
    sink,
)
from digest import locales, schema
from digest.models import Frequency, Part, Wishes
from digest.rendering import Entry, compose
from digest.rendering.card import View, view
from digest.rendering.templating import Templates
from digest.sample import TOPICS
from digest.services import Services
from digest.storage import papers, subscribers, topics
from digest.storage.database import reading, writing
from digest.storage.digests import items_of

BAR = 5.0  # seconds for 100 subscribers
DAWN = datetime(1970, 1, 1, tzinfo=UTC)
LANGUAGE = locales.language(locales.SOURCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One way's figures in one round."""

    planned: Took = field(default=Took(seconds=0, cpu=0))
    sent: Took
    received: Received


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What the usual way makes a mail of."""

    cards: Sequence[tuple[str, View]]  # template and what it shows
    personal: Mapping[str, str]


def run(
    *,
    people: int = 100,
    rounds: int = 5,
    kinds: Sequence[str] = KINDS,
) -> list[Row]:
    """Through the ledger on each kind of database, and the usual way."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        creates = stack.enter_context(databases(folder, kinds))
        url, server = stack.enter_context(replay()), stack.enter_context(sink())
        numbers = count(1)
        for create in creates.values():
            with house(folder, create("ready", ""), url) as services:
                services.collect()
                _populate(services, people)
        with house(folder, creates[kinds[0]]("planned", "ready"), url) as services:
            services.plan_due()
            mails = _mails(services)
            templates = Templates(services.settings.templates_dir, services.site)

        def ours(kind: str) -> Round:
            fresh = creates[kind](f"round_{next(numbers)}", "ready")
            with house(folder, fresh, url, smtp_port=server.port) as services:
                return _send(services, server)

        ways = {
            "usual": partial(_send_as_usual, mails, templates, server),
            **{kind: partial(ours, kind) for kind in creates},
        }
        took = interleave(rounds, ways)
    for rounds_of in took.values():
        for one in rounds_of:
            if not one.received.mails == one.received.recipients == one.received.own == people:
                raise RuntimeError(
                    f"{people} mails were to arrive, each at its own: {one.received}"
                )
    usual = took["usual"]
    rows = [_row("the usual way", usual, [one.sent for one in usual])]
    for kind in kinds:
        if kind not in took:
            rows.append(Row(what=kind, note=ABSENT))
            continue
        mine = took[kind]
        whole = [one.planned + one.sent for one in mine]
        sent = [one.sent for one in mine]
        rows += [
            _row(f"{kind}, planned and sent", mine, whole, usual=usual, bar=BAR * people / 100),
            _row(f"{kind}, of that sent", mine, sent, usual=usual),
        ]
    return rows


def _row(
    what: str,
    rounds: Sequence[Round],
    took: Sequence[Took],
    *,
    usual: Sequence[Round] = (),
    bar: float | None = None,
) -> Row:
    mails = rounds[0].received.mails
    return timed(
        what,
        took,
        baseline=[one.sent for one in usual],
        bar=bar,
        more={
            "mails/s": f"{mails / median(one.seconds for one in took):.0f}",
            "CPU a mail": clock(median(one.cpu for one in took) / mails),
            "sink's": clock(median(one.received.cpu for one in rounds) / mails),
            "size": f"{rounds[0].received.size / mails / 1000:.1f} kB",
        },
    )


def _populate(services: Services, people: int) -> None:
    """Subscribers who are due now, with other topics and lengths each."""
    slugs = [slug for slug, _, _ in TOPICS]
    newcomers = [
        services.newcomer(
            f"reader.{number}@example.org",
            Wishes(
                name=f"Reader {number}",
                zone="UTC",
                hour=NOW.hour,
                frequency=Frequency.DAILY,
                max_papers=10 + number % 11,
            ),
            [slugs[number % len(slugs)], slugs[number // len(slugs) % len(slugs)]],
        )
        for number in range(people)
    ]
    with writing(services.engine) as connection:
        for slug, name, query in TOPICS:
            topics.add(connection, name, query, slug=slug, now=NOW)
        subscribers.add_many(connection, newcomers, now=NOW, since=NOW - timedelta(hours=1))


def _send(services: Services, server: Sink) -> Round:
    with services.relay() as relay:
        postman = services.postman(relay)
    server.report()
    planned = measure(services.plan_due)
    sent = measure(postman.deliver)
    return Round(planned=planned, sent=sent, received=server.report())


def _mails(services: Services) -> list[Mail]:
    """What each of the planned digests shows."""
    with reading(services.engine) as connection:
        known = {paper.id: paper for paper in papers.candidates(connection, since=DAWN)}
        rows = connection.execute(select(schema.digest.c.personal, schema.digest.c["items"])).all()
    return [
        Mail(
            personal=personal,
            cards=[
                (
                    "email/digest/card" if item.card else "email/digest/line",
                    view(
                        Entry(paper=known[item.paper_id], reasons=item.reasons, card=item.card),
                        language=LANGUAGE,
                    ),
                )
                for item in items_of(items)
            ],
        )
        for personal, items in rows
    ]


def _send_as_usual(mails: Sequence[Mail], templates: Templates, server: Sink) -> Round:
    def work() -> None:
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            for mail in mails:
                client.send_message(_compose_as_usual(mail, templates))

    server.report()
    return Round(sent=measure(work), received=server.report())


def _compose_as_usual(mail: Mail, templates: Templates) -> EmailMessage:
    def render(kind: str, name: str, **values: Any) -> Part:
        html, text = (
            templates.render(f"{name}.{ending}", language=LANGUAGE, **values).strip().encode()
            for ending in ("html", "txt")
        )
        return Part(hash="", kind=kind, html=html, text=text)

    html, text = compose(
        render("skeleton", "email/digest/body"),
        [(render("card", name, card=shown), name.endswith("card")) for name, shown in mail.cards],
        mail.personal,
    )
    message = EmailMessage()
    message["From"] = mail.personal["sender_address"]
    message["To"] = f"{mail.personal['name']} <{mail.personal['address']}>"
    for name in ("Subject", "Date", "Message-ID"):
        message[name] = mail.personal[name.lower().replace("-", "_")]
    message["List-Unsubscribe"] = f"<{mail.personal['unsubscribe_url']}>"
    message.set_content(text)
    inlined = Premailer(html, allow_network=False, cssutils_logging_level=logging.CRITICAL)
    message.add_alternative(inlined.transform(), subtype="html")
    return message
