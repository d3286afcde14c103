"""A paper whose every field is an attack, and the check that an answer shows it as text alone."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import httpx
from lxml import etree, html

from digest.models import Record
from tests.local_house import NOW

EVIL = (
    "</title><script>alert(1)</script>\"'`><img src=x onerror=alert(2)>&amp;{{7*7}}{% x %}%(count)s"
    " $a<b$ \\input{x} \u202eevil\u2066\x0b\x1b]]>-->\u2028"
)
_LINKS = {
    "pdf": "javascript:alert(1)",
    "code": "data:text/html,<script>",
    "html": 'https://example.org/"><script>',
    "project": "JaVaScRiPt:alert(1)",
    "huggingface": "//evil.example",
    "thumbnail": "data:image/svg+xml,<svg onload=x>",
}
HOSTILE = tuple(
    Record(
        source="feed:own",
        external_id=f"evil{number}",
        title=f"{EVIL} agents reasoning {number}",
        url=url,
        listed_at=NOW - timedelta(hours=3),
        published_at=NOW - timedelta(days=1),
        abstract=f"{EVIL * 3} agents",
        summary=summary,
        authors=(EVIL,) * 4,
        organisation=EVIL,
        venue=EVIL,
        comment=EVIL,
        keywords=(EVIL, "agents"),
        categories=(EVIL,),
        links=_LINKS,
        signals={"upvotes": 5_000 + number, "comments": 10, "stars": 20},
        doi=f"10.1234/}}\\input{{x}}<script>{number}",
    )
    for number, (url, summary) in enumerate(
        (("javascript:alert(1)", EVIL), ("https://papers.example.org/x", ""))
    )
)
# Control characters, and what turns the direction of writing.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LEADS = ("http://", "https://", "mailto:", "#", "/", "?")


def check(answer: httpx.Response) -> None:
    """AssertionError where something of a paper is more than text."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == "text/html":
        check_page(answer.text)
    elif kind.endswith("xml") and not kind.startswith("image/"):
        assert not _UNSEEN.search(answer.text)
        for element in etree.fromstring(answer.content).iter():
            assert str(element.get("href", "https://")).startswith("http")
    elif kind.endswith("json"):
        found = answer.json()
        assert not _UNSEEN.search(json.dumps(found, ensure_ascii=False))
        for item in found.get("items", ()):
            for name in ("url", "external_url"):
                assert item.get(name, "https://").startswith("http")


def check_page(text: str) -> None:
    """The same for an HTML document, ours or a mail."""
    assert not _UNSEEN.search(text)
    for element in html.document_fromstring(text).iter():
        if not isinstance(element.tag, str):
            continue
        assert element.tag not in {"img", "object", "embed"}
        if element.tag == "script":
            assert str(element.get("src")).startswith("/static/")
        for name, value in element.attrib.items():
            assert not str(name).startswith("on")
            if name in {"href", "src", "action", "formaction"}:
                assert str(value).startswith(_LEADS)
                assert not str(value).startswith("//")
