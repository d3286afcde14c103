"""What one paper shows: everything that its card's template needs, and nothing else.

The view is plain JSON. Its hash is the card's address, so a card is rendered again exactly when
something that a reader can see has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from digest.locales import Language
from digest.models import Mark, Paper, Reason
from digest.papers.text import claim
from digest.rendering import words
from digest.rendering.prose import Run, one_line, plain, runs, shorten, web_url

# Bounds that only a broken or hostile source meets; with them no card can crowd out the others.
LONGEST_TITLE = 300  # characters
LONGEST_SUMMARY = 700
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One chosen paper with what is shown beside it."""

    paper: Paper
    marks: tuple[Mark, ...] = ()
    reasons: tuple[Reason, ...] = ()
    card: bool = True  # False: one line under "also today"


class Link(TypedDict):
    """A link under the summary; without a URL it is the note alone."""

    label: str
    url: str
    note: str  # 3 comments; 28 stars


class View(TypedDict):
    """What a card or line says, in its language."""

    title: list[Run]
    url: str
    byline: str
    summary: list[Run]
    votes: str
    unit: str
    links: list[Link]
    why: str


def view(entry: Entry, *, language: Language) -> View:
    """What the paper's card says, or its line: then title, link and votes alone."""
    paper = entry.paper
    votes = paper.signals.get("upvotes", 0)
    shown = View(
        title=title(entry),
        url=web_url(paper.url),
        byline="",
        summary=[],
        votes=language.number(votes) if votes > 0 else "",
        unit=language.ngettext("vote", "votes", votes),
        links=[],
        why="",
    )
    if entry.card:
        about = [words.byline(paper.authors, language=language)]
        about += [
            shorten(one_line(name), LONGEST_NAME) for name in (paper.organisation, paper.venue)
        ]
        shown["byline"] = " · ".join(part for part in about if part)
        shown["summary"] = summary(entry)
        shown["links"] = _links(paper, language=language)
        shown["why"] = words.why(entry.reasons, language=language)
    return shown


def title(entry: Entry) -> list[Run]:
    """The paper's title, with what the filter matched in it."""
    shown = runs(entry.paper.title, [mark for mark in entry.marks if mark.field == "title"])
    if len(plain(shown)) <= LONGEST_TITLE:
        return shown
    return [(shorten(plain(shown), LONGEST_TITLE), False)]


def summary(entry: Entry) -> list[Run]:
    """The source's one sentence, else the first claim of the abstract, with the marks inside it."""
    field = "summary" if entry.paper.summary else "abstract"
    whole: str = getattr(entry.paper, field)
    shown = whole if field == "summary" and len(whole) <= LONGEST_SUMMARY else claim(whole)
    start = whole.find(shown)
    if start < 0 or len(shown) > LONGEST_SUMMARY:
        return runs(shorten(one_line(shown), LONGEST_SUMMARY), ())
    marks = [
        Mark(field=field, start=mark.start - start, end=mark.end - start)
        for mark in entry.marks
        if mark.field == field
    ]
    return runs(shown, marks)


def _links(paper: Paper, *, language: Language) -> list[Link]:
    """Where to read on; the comments stand with their page, the stars with the code."""
    comments, stars = paper.signals.get("comments", 0), paper.signals.get("stars", 0)
    discussion = words.counted_comments(comments, language=language) if comments > 0 else ""
    popularity = words.counted_stars(stars, language=language) if stars > 0 else ""
    rows = (
        (language.gettext("arXiv"), paper.url if paper.arxiv_id else "", ""),
        (language.gettext("PDF"), paper.links.get("pdf", ""), ""),
        (language.gettext("HTML"), paper.links.get("html", ""), ""),
        (language.gettext("Hugging Face"), paper.links.get("huggingface", ""), discussion),
        (language.gettext("Code"), paper.links.get("code", ""), popularity),
        (language.gettext("Project"), paper.links.get("project", ""), ""),
    )
    links = [Link(label=label, url=web_url(url), note=note) for label, url, note in rows]
    return [link for link in links if link["url"] or link["note"]]
