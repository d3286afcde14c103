"""Lists of papers in pages: which one is asked for, and what the cards on it say."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request

from digest.models import Paper
from digest.rendering.card import Entry, View, view
from digest.storage.search import Hit
from digest.web.view import Web

PAGE = 50  # papers; keeps a page well below 100 KB


def page_number(request: Request, *, pages: int = 10**5) -> int:
    """Which of `pages` the address asks for; 404 where there is none."""
    written = request.query_params.get("page", "1")
    if not (written.isascii() and written.isdigit() and len(written) < 6):
        raise HTTPException(404)
    number = int(written)
    if not 1 <= number <= pages:
        raise HTTPException(404)
    return number


def cards(web: Web, request: Request, found: Iterable[Paper | Hit]) -> list[tuple[Paper, View]]:
    """Papers, or what a search found, each with what its card says."""
    language = web.language(request)
    entries = [
        Entry(paper=one.paper, marks=one.marks, found=True)
        if isinstance(one, Hit)
        else Entry(paper=one)
        for one in found
    ]
    return [(entry.paper, view(entry, language=language)) for entry in entries]
