"""The usual way: for each subscriber Jinja2, premailer, EmailMessage; one smtplib connection.

The templates, compiled once, show what the engine's mails show, with the same styles. The choice
of papers is had for nothing, and no ledger is kept.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from premailer import Premailer
from sqlalchemy import select

from benchmarks.population import AGE
from benchmarks.sending.trial import Sent
from benchmarks.surroundings import ROOT
from digest import locales, schema
from digest.rendering import Entry
from digest.rendering.card import View, view
from digest.services import Services
from digest.storage import papers
from digest.storage.database import reading
from digest.storage.digests import items_of

HERE = Path(__file__).parent
SENDER = "digest@example.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What one subscriber is to be shown."""

    name: str
    address: str
    papers: Sequence[View]


def letters(services: Services, *, count: int) -> list[Letter]:
    """What the first of the planned digests hold."""
    language = locales.language(locales.SOURCE)
    digests, people = schema.digest, schema.subscriber
    with reading(services.engine) as connection:
        known = {
            paper.id: paper for paper in papers.candidates(connection, since=services.clock() - AGE)
        }
        rows = connection.execute(
            select(people.c.name, people.c.address, digests.c["items"])
            .join(digests, digests.c.subscriber_id == people.c.id)
            .order_by(people.c.id)
            .limit(count)
        ).all()
    return [
        Letter(
            name=name,
            address=address,
            papers=[
                view(Entry(paper=known[item.paper_id], reasons=item.reasons), language=language)
                for item in items_of(items)
            ],
        )
        for name, address, items in rows
    ]


@contextmanager
def prepare(port: int, letters: Sequence[Letter]) -> Iterator[Callable[[], Sent]]:
    """Make and send them, one after another."""
    environment = Environment(
        loader=FileSystemLoader([HERE, ROOT / "templates"]), autoescape=select_autoescape(["html"])
    )
    templates = [environment.get_template(f"usual.{ending}") for ending in ("txt", "html")]

    def send() -> Sent:
        with smtplib.SMTP("127.0.0.1", port) as client:
            for letter in letters:
                text, html = (template.render(letter=letter) for template in templates)
                client.send_message(_compose(letter, text, html))
        return Sent(mails=len(letters))

    yield send


def _compose(letter: Letter, text: str, html: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"Paper Digest <{SENDER}>"
    message["To"] = f"{letter.name} <{letter.address}>"
    message["Subject"] = "".join(piece for piece, _ in letter.papers[0]["title"])[:70]
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="example.org")
    message["List-Unsubscribe"] = f"<https://digest.example.org/u/{letter.address}>"
    message.set_content(text)
    inlined = Premailer(html, allow_network=False, cssutils_logging_level=logging.CRITICAL)
    message.add_alternative(inlined.transform(), subtype="html")
    return message
