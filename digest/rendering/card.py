"""What one paper shows: everything that its card's template needs, and nothing else.

The view is plain JSON. Its hash is the card's address, so a card is rendered again exactly when
something that a reader can see has changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

from digest.locales import Language
from digest.models import Mark, Paper, Reason
from digest.papers.text import claim, sentences
from digest.rendering import words
from digest.rendering.prose import Run, glued, one_line, plain, runs, shorten, web_url

# Bounds that only a broken or hostile source meets; with them no card can crowd out the others.
LONGEST_TITLE = 300  # characters
LONGEST_SUMMARY = 420
BEFORE = 60  # of a summary, before what was found in it
LONGEST_ABSTRACT = 4_000  # arXiv takes 1,920
LONGEST_NAME = 100
LONGEST_TAG = 8  # the votes' column has room for no more
SHORTEST_GIST = 80  # characters; a shorter claim mostly points at the sentence after it
ACRONYMS = frozenset({"ai", "hkust", "llm", "ml", "mlpc", "nlp", "ucsd"})
SMALL = frozenset({"and", "at", "for", "of", "the"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One chosen paper with what is shown beside it."""

    paper: Paper
    marks: tuple[Mark, ...] = ()
    reasons: tuple[Reason, ...] = ()
    card: bool = True  # False: one line under "also today"
    full: bool = False  # the whole abstract, in the place of the summary
    noted: bool = False  # there is room for reasons that are one person's
    found: bool = False  # by somebody's words, one of which is to be seen


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
    tag: str  # stands in the place of votes where there are none: cs.AI
    links: list[Link]
    why: str
    noted: bool
    mutes: bool  # one of its topics can be muted


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
        tag="" if votes > 0 else _tag(paper.categories),
        links=[],
        why="",
        noted=False,
        mutes=False,
    )
    if entry.card:
        about = [words.byline(paper.authors, language=language)]
        about += [
            shorten(one_line(name), LONGEST_NAME)
            for name in (organisation(paper.organisation), paper.venue)
        ]
        shown["byline"] = glued(words.DOT.join(part for part in about if part))
        shown["summary"] = summary(entry)
        shown["links"] = _links(paper, language=language)
        shown["why"] = words.why(entry.reasons, language=language)
        shown["noted"] = entry.noted
        shown["mutes"] = any(reason.kind == "topic" for reason in entry.reasons)
    return shown


def title(entry: Entry) -> list[Run]:
    """The paper's title, with what the filter matched in it."""
    marks = [mark for mark in entry.marks if mark.field == "title"]
    return _shortened(runs(entry.paper.title, marks), LONGEST_TITLE)


@lru_cache(maxsize=4096)
def heading(title: str) -> str:
    """What `title` says of a paper with this title, without the marks."""
    return shorten(one_line(title), LONGEST_TITLE)


def summary(entry: Entry) -> list[Run]:
    """The source's one sentence, else the first claim of the abstract, with the marks inside it.

    What was found has another sentence where no mark would be seen otherwise. Who wants it full
    gets the whole abstract, where there is one.
    """
    if entry.full and entry.paper.abstract:
        marks = [mark for mark in entry.marks if mark.field == "abstract"]
        return _shortened(runs(entry.paper.abstract, marks), LONGEST_ABSTRACT)
    field = "summary" if entry.paper.summary else "abstract"
    whole: str = getattr(entry.paper, field)
    shown = whole if field == "summary" and len(whole) <= LONGEST_SUMMARY else _gist(whole)
    start = whole.find(shown)
    is_cut = False
    if entry.found and not any(_is_seen(mark, field, start, len(shown)) for mark in entry.marks):
        places = [mark.start for mark in entry.marks if mark.field == "abstract"]
        if places:
            field = "abstract"
            start, shown, is_cut = _around(entry.paper.abstract, min(places))
    marks = [
        Mark(field=field, start=mark.start - start, end=mark.end - start)
        for mark in entry.marks
        if mark.field == field
    ]
    pieces = _shortened(runs(shown, marks), LONGEST_SUMMARY)
    return [("… ", False), *pieces] if is_cut else pieces


def _is_seen(mark: Mark, field: str, start: int, length: int) -> bool:
    """Whether a mark is in the title, or begins where this part of a field is shown."""
    end = start + min(length, LONGEST_SUMMARY)
    return mark.field == "title" or (mark.field == field and start <= mark.start < end)


def _around(abstract: str, place: int) -> tuple[int, str, bool]:
    """Where the sentence with that place begins, the sentence, and whether its beginning is cut.

    It is where what stands at the place would come after all that a summary has room for.
    """
    start = end = 0
    for sentence in sentences(abstract):
        start = abstract.find(sentence, end)
        end = start + len(sentence)
        if place < end:
            break
    if place - start < LONGEST_SUMMARY // 2:
        return start, abstract[start:end], False
    start = max(abstract.rfind(" ", start, place - BEFORE), place - 2 * BEFORE) + 1
    return start, abstract[start:end], True


def _shortened(pieces: list[Run], limit: int) -> list[Run]:
    whole = plain(pieces)
    short = shorten(whole, limit)
    if short == whole:
        return pieces
    kept, room = [], len(short) - 1
    for text, marked in pieces:
        kept.append((text[:room], marked))
        room -= len(kept[-1][0])
    return [*(piece for piece in kept if piece[0]), ("…", False)]


def organisation(name: str) -> str:
    """An organisation as people write it, where the source knows only a slug: Alibaba Inc.

    One that says of itself that it is not the official one is left out.
    """
    if "official" in name.casefold():
        return ""
    parts = re.split(r"[-_ ]+", name.strip())
    if len(parts) == 1 or not name.islower():
        return name
    return " ".join(
        part.upper() if part in ACRONYMS else part if part in SMALL else part.capitalize()
        for part in parts
    )


def _tag(categories: Sequence[str]) -> str:
    """The paper's primary category, or its archive (`physics.optics`), if the column has room."""
    whole = one_line(categories[0]) if categories else ""
    return next((tag for tag in (whole, whole.partition(".")[0]) if len(tag) <= LONGEST_TAG), "")


def _gist(abstract: str) -> str:
    """The claim, with what follows it where it says little ("This paper closes that gap.")."""
    found = claim(abstract)
    start = abstract.find(found)
    end = start + len(found)
    for sentence in sentences(abstract[end:]):
        if end - start >= SHORTEST_GIST:
            break
        end = abstract.find(sentence, end) + len(sentence)
    return abstract[start:end]


def every_link(paper: Paper, *, language: Language) -> list[Link]:
    """Where to read on, alphaXiv's page too; a card has no room for that."""
    others = _links(paper, language=language)
    if paper.arxiv_id:
        url = f"https://www.alphaxiv.org/abs/{paper.arxiv_id}"
        others.append(Link(label=language.gettext("alphaXiv"), url=url, note=""))
    elif (url := web_url(paper.url)) and url not in {link["url"] for link in others}:
        others.insert(0, Link(label=language.gettext("The paper's page"), url=url, note=""))
    return others


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
    links, seen = [], set[str]()
    for label, given, note in rows:
        url = web_url(given)
        # A project's page is often its code, or its page at Hugging Face, once more.
        if note or (url and url not in seen):
            links.append(Link(label=label, url=url, note=note))
        seen.add(url)
    return links
