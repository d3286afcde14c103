"""The usual way: for each subscriber Jinja2, premailer, EmailMessage; one smtplib connection.

It fills the product's own templates, compiled once, with what the engine has frozen, so its mails
show the same and are as large. The choice of papers and the words around them are had for nothing,
and no ledger is kept.
"""

from __future__ import annotations

import logging
import re
import smtplib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template, select_autoescape
from premailer import Premailer
from sqlalchemy import select

from benchmarks.population import AGE
from benchmarks.sending.trial import Sent
from benchmarks.surroundings import ROOT
from digest import locales, schema
from digest.models import Item, Paper, Site
from digest.pipeline.matching import Matcher, usable
from digest.rendering import Entry
from digest.rendering.card import View, view
from digest.rendering.parts import INDENT
from digest.rendering.prose import WIDTH, one_line, plain, wrap
from digest.rendering.templating import RULE
from digest.services import Services
from digest.storage import papers, topics
from digest.storage.database import reading
from digest.storage.digests import items_of
from digest.topics.match import Match

BODIES = ("email/digest/body.txt", "email/digest/body.html")
# What the engine puts into a ready skeleton, written as anybody would who has Jinja2 alone.
_USUAL = {
    r"(?:<!--)?@@\?(\w+)@@(?:-->)?": r"{% if \1 %}",
    r"(?:<!--)?@@/\w+@@(?:-->)?": "{% endif %}",
    r"<!--@@cards@@-->": """\
{% for card in cards %}{% set here, mutes = letter.words.feedback ~ "/" ~ loop.index, card.mutes %}
{% set acts %}{% include "email/digest/acts.html" %}{% endset %}
{% include "email/digest/card.html" %}{% endfor %}""",
    r"@@cards@@": """\
{% for card in cards %}
{% set here = letter.words.feedback ~ "/" ~ loop.index %}
{{ "%-4s"|format(loop.index ~ ".") }}{% filter indent %}{% include "email/digest/card.txt" %}
{% endfilter %}

{% endfor %}""",
    r"(?:<!--)?@@lines@@(?:-->)?": "",  # every paper of the invented house has a card
    r"@@(\w+)@@": r"{{ letter.words.\1 }}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What one subscriber is to be shown."""

    words: Mapping[str, str]  # as they were frozen: name, address, subject, lead ...
    papers: Sequence[View]


def letters(services: Services, *, count: int) -> list[Letter]:
    """What the first of the planned digests hold."""
    digests = schema.digest
    with reading(services.engine) as connection:
        known = {
            paper.id: paper for paper in papers.candidates(connection, since=services.clock() - AGE)
        }
        named, queries = usable(topics.all_topics(connection))
        rows = connection.execute(
            select(digests.c.personal, digests.c["items"])
            .order_by(digests.c.subscriber_id)
            .limit(count)
        ).all()
    chosen = [(words, items_of(items)) for words, items in rows]
    shown = {item.paper_id: known[item.paper_id] for _, items in chosen for item in items}
    hits = Matcher().matches(shown.values(), queries)
    names = {slug: topic.name for slug, topic in named.items()}
    return [
        Letter(
            words=words,
            papers=[
                _card(item, shown[item.paper_id], hits=hits[item.paper_id], names=names)
                for item in items
            ],
        )
        for words, items in chosen
    ]


def _card(item: Item, paper: Paper, *, hits: Mapping[str, Match], names: Mapping[str, str]) -> View:
    topics = [str(slug) for one in item.reasons if one.kind == "topic" for slug in one.args]
    entry = Entry(
        paper=paper,
        marks=tuple(mark for slug in topics for mark in hits[slug].marks),
        reasons=tuple(
            one._replace(args=tuple(names[str(slug)] for slug in one.args))
            if one.kind == "topic"
            else one
            for one in item.reasons
        ),
    )
    return view(entry, language=locales.language(locales.SOURCE))


@contextmanager
def prepare(port: int, site: Site, letters: Sequence[Letter]) -> Iterator[Callable[[], Sent]]:
    """Make and send them, one after another, when the first was sent once to warm up."""
    templates = _templates(site)
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.send_message(_compose(letters[0], templates))

        def send() -> Sent:
            for letter in letters:
                client.send_message(_compose(letter, templates))
            return Sent(mails=len(letters))

        yield send


def _templates(site: Site) -> list[Template]:
    """The bodies, text and HTML."""
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_null_translations(newstyle=True)  # type: ignore[attr-defined]
    environment.globals |= {"site": site, "lang": "en", "direction": "ltr", "rule": "-" * RULE}
    environment.filters |= {
        "glued": lambda pieces: pieces,  # it only keeps the last words of a title together
        "one_line": one_line,
        "plain": plain,
        "translated": str,
        "unbroken": lambda text: text.replace(" ", "\u00a0"),
        "wrap": wrap,
        "wrap_card": lambda text: wrap(text, WIDTH - INDENT),
    }
    return [environment.get_template(name) for name in BODIES]


def _source(name: str) -> str:
    text = (ROOT / "templates" / name).read_text(encoding="utf-8")
    for place, usual in _USUAL.items():
        text = re.sub(place, usual, text)
    return text


def _compose(letter: Letter, templates: Sequence[Template]) -> EmailMessage:
    words, cards = letter.words, letter.papers
    text, html = (template.render(letter=letter, cards=cards, lines=()) for template in templates)
    message = EmailMessage()
    message["From"] = "Paper Digest <digest@example.org>"
    message["To"] = f"{words['name']} <{words['address']}>"
    message["Subject"] = words["subject"]
    message["Date"] = words["date"]
    message["Message-ID"] = words["message_id"]
    message["List-Id"] = "Paper Digest <digest.example.org>"
    message["List-Unsubscribe"] = f"<{words['unsubscribe_url']}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(text)
    inlined = Premailer(
        html,
        allow_network=False,
        strip_important=False,
        cssutils_logging_level=logging.CRITICAL,
    )
    message.add_alternative(inlined.transform(), subtype="html")
    return message
