"""What the tests of the mail have in common: a site, a reader, papers, and the mail they make."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import lxml.html

from digest.message import envelope
from digest.models import (
    Frequency,
    Mark,
    Message,
    Paper,
    Part,
    Reason,
    Schedule,
    Site,
    Slot,
    Status,
    Subscriber,
)
from digest.rendering import Entry, Renderer, compose

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
SITE = Site(
    name="Paper Digest",
    base_url="https://digest.example.org",
    sender_address="digest@example.org",
    list_id="digest.example.org",
    tagline="The morning's papers, ranked for you",
    postal_address="Example Lab, 1 Example Street, 12345 Berlin",
    imprint_url="https://digest.example.org/imprint",
)
UNSUBSCRIBE = "https://digest.example.org/unsubscribe/" + "u" * 40
PREFERENCES = "https://digest.example.org/me/" + "p" * 40
VIEW = "https://digest.example.org/v/" + "v" * 40
FEEDBACK = "f" * 40


def subscriber(**changes: Any) -> Subscriber:
    values: dict[str, Any] = {
        "id": 42,
        "address": "ada@example.org",
        "name": "Ada Lovelace",
        "zone": "Europe/Berlin",
        "hour": 8,
        "frequency": Frequency.WEEKDAYS,
        "weekday": None,
        "max_papers": 15,
        "status": Status.ACTIVE,
        "created_at": datetime(2026, 3, 3, 9, tzinfo=UTC),
    }
    return Subscriber(**values | changes)


def slot(day: date = date(2026, 5, 28), **changes: Any) -> Slot:
    values: dict[str, Any] = {
        "since": datetime(2026, 3, 3, 9, tzinfo=UTC),
        "zone": "Europe/Berlin",
        "hour": 8,
        "frequency": Frequency.WEEKDAYS,
    }
    return Slot(
        date=day,
        due_at=datetime(day.year, day.month, day.day, 6, tzinfo=UTC),
        schedule=Schedule(**values | changes),
    )


def paper(number: int = 1, **changes: Any) -> Paper:
    values: dict[str, Any] = {
        "id": number,
        "title": f"Invented Work {number}: Agents that Read Slowly",
        "url": f"https://papers.example.org/{number}",
        "abstract": "Reading is slow. We propose agents that read slowly. They win.",
        "summary": "A study of agents that read slowly and remember more.",
        "authors": ("Ada Lovelace", "Kurt Gödel", "Emmy Noether", "Alan Turing", "Grace Hopper"),
        "organisation": "Example University",
        "venue": "Example Conference 2026",
        "arxiv_id": f"9901.{number:05}",
        "links": {
            "pdf": f"https://papers.example.org/{number}.pdf",
            "html": f"https://papers.example.org/{number}.html",
            "huggingface": f"https://hub.example.org/{number}",
            "code": f"https://code.example.org/{number}",
            "project": f"https://project.example.org/{number}",
        },
        "signals": {"upvotes": 100 - number, "comments": 2, "stars": 1234},
    }
    return Paper(**values | changes)


def entry(number: int = 1, *, card: bool = True, **changes: Any) -> Entry:
    about = paper(number, **changes)
    marks = tuple(
        Mark(field=field, start=found.start(), end=found.end())
        for field in ("title", "summary", "abstract")
        for found in re.finditer("agents", getattr(about, field), re.IGNORECASE)
    )
    reasons = (Reason(kind="topic", args=("agents",)), Reason(kind="votes", args=(72, 12)))
    return Entry(paper=about, marks=marks, reasons=reasons, card=card)


def entries(cards: int = 3, lines: int = 2) -> list[Entry]:
    return [entry(number, card=number <= cards) for number in range(1, cards + lines + 1)]


def recorded(shared_data: Path, count: int, cards: int) -> list[Entry]:
    """A recorded day as entries, the way the sources would have filled them."""
    path = shared_data / "hf" / "daily" / "2026-05-28.json"
    found = []
    for number, row in enumerate(json.loads(path.read_text())[:count], start=1):
        about = row["paper"]
        found.append(
            entry(
                number,
                card=number <= cards,
                title=row["title"],
                url=f"https://arxiv.org/abs/{about['id']}",
                abstract=" ".join(about["summary"].split()),
                summary=about.get("ai_summary") or "",
                authors=tuple(author["name"] for author in about["authors"]),
                organisation=(about.get("organization") or {}).get("fullname", ""),
                venue="",
                arxiv_id=about["id"],
                signals={
                    "upvotes": about["upvotes"],
                    "comments": row["numComments"],
                    "stars": about.get("githubStars") or 0,
                },
            )
        )
    return found


def document(html: str) -> Any:
    """The tree of a mail, or of one card."""
    return lxml.html.document_fromstring(html)


def personal(
    renderer: Renderer, chosen: Sequence[Entry], *, candidates: int = 431, **changes: Any
) -> dict[str, str]:
    values: dict[str, Any] = {
        "subscriber": subscriber(),
        "slot": slot(),
        "topics": ["agents", "reasoning"],
        "unsubscribe_url": UNSUBSCRIBE,
        "preferences_url": PREFERENCES,
        "view_url": VIEW,
        "feedback": FEEDBACK,
    }
    return renderer.personal(chosen, candidates=candidates, **values | changes)


def parts(renderer: Renderer, chosen: Sequence[Entry]) -> list[tuple[Part, bool]]:
    made = renderer.cards(chosen, locale="en")
    return [(part, item.card) for part, item in zip(made, chosen, strict=True)]


def frozen(renderer: Renderer, chosen: Sequence[Entry], **changes: Any) -> dict[str, str]:
    """All that is stored of a mail beside its parts."""
    reader = changes.get("subscriber", subscriber())
    return {
        **personal(renderer, chosen, **changes),
        **envelope(reader, slot(), now=slot().due_at, site=SITE),
    }


def parsed(message: Message) -> EmailMessage:
    found = BytesParser(policy=default).parsebytes(message.content)
    assert isinstance(found, EmailMessage)
    return found


def mail(renderer: Renderer, chosen: Sequence[Entry], **changes: Any) -> tuple[str, str]:
    return compose(
        renderer.skeleton(locale="en"),
        parts(renderer, chosen),
        personal(renderer, chosen, **changes),
    )
