"""Every HTML and CSS feature of the mail, against what mail programs support.

The data is caniemail.com's. A feature that the mail uses must be known, and fully supported by
the programs below, or stand in ACCEPTED with the reason why the mail is still good without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digest.models import Reason
from digest.rendering import Renderer
from tests import mails

# Each family's platforms; None means all that the data has.
PROGRAMS: dict[str, tuple[str, ...] | None] = {
    "gmail": None,
    "outlook": ("windows", "macos", "outlook-com"),
    "apple-mail": None,
    "yahoo": None,
    "samsung-email": None,
}

# What a feature is called in the data.
SLUGS = {
    "doctype": "html-doctype",
    "comment": "html-comments",
    "meta color-scheme": "html-meta-color-scheme",
    "@media": "css-at-media",
    "media prefers-color-scheme": "css-at-media-prefers-color-scheme",
    "media max-width": "css-at-media",
    "selector class": "css-selector-class",
    "selector type": "css-selector-type",
    "selector attribute": "css-selector-attribute",
    "selector descendant": "css-selector-descendant",
    "selector grouping": "css-selector-grouping",
    "!important": "css-important",
    "unit px": "css-unit-px",
    "unit %": "css-unit-percent",
    "display: none": "css-display-none",
    "display: inline-block": "css-display",
    **{
        f"<{tag}>": f"html-{tag}"
        for tag in ("body", "div", "p", "span", "strong", "style", "table")
    },
    **{f"<{tag}>": "html-h1-h6" for tag in ("h1", "h2")},
    **{f"<{tag}>": "html-table" for tag in ("tr", "td")},
    **{
        f"[{name}]": f"html-{name}"
        for name in (
            "align",
            "cellpadding",
            "cellspacing",
            "dir",
            "lang",
            "role",
            "valign",
            "width",
        )
    },
    **{
        name: f"css-{name}"
        for name in (
            "background-color",
            "display",
            "font-size",
            "font-weight",
            "letter-spacing",
            "line-height",
            "margin",
            "max-height",
            "max-width",
            "overflow",
            "padding",
            "text-decoration",
            "vertical-align",
            "width",
            "word-break",
        )
    },
    "padding-top": "css-padding",
    "border-bottom": "css-border",
    "border-bottom-color": "css-border",
}

# What the data has no entry for, and why there is no doubt about it.
BEYOND_DOUBT = {
    **dict.fromkeys(
        ["<html>", "<head>", "<meta>", "<title>", "<a>", "<br>", "[href]", "[class]", "[style]"],
        "HTML 2; class and style carry what the data lists one by one",
    ),
    **dict.fromkeys(["[charset]", "[name]", "[content]"], "of meta; the MIME part says it too"),
    **dict.fromkeys(
        ["meta viewport", "meta format-detection", "meta supported-color-schemes"],
        "advice that costs nothing where it is not known",
    ),
    "[border]": "HTML 3.2; says 0, which is the default",
    "color": "CSS 1, in every program that has styles at all",
    "font-family": "CSS 1; a program without the named fonts takes its own",
    "font-variant-numeric": "digits of one width; without it they are the font's own",
}

ACCEPTED = {
    "css-at-media": "Outlook for Windows and Gmail's mobile web take the desktop's layout, which"
    " is one fluid column; the rules only tighten it for phones and colour it for the dark.",
    "css-at-media-prefers-color-scheme": "where it is unknown (Gmail, Outlook for Windows, Yahoo)"
    " the mail is light, or inverted by the program: each marked run sets ground and ink itself.",
    "css-border": "Outlook for Windows: on table cells it is right, and only they have one.",
    "css-display": "only none, and inline-block of links, which makes them as high as a finger"
    " wants; without it they are as high as their letters.",
    "css-display-none": "Outlook for Windows and Gmail's mobile web: the preheader is also one"
    " pixel high, white on white, and true when it is read.",
    "css-font-size": "the units that some lack are not used.",
    "css-font-weight": "Outlook for Windows knows only bold and normal, and these become bold.",
    "css-important": "only in style elements, which the same programs drop as a whole.",
    "css-letter-spacing": "Outlook for Windows: a tenth of a pixel, and the wordmark.",
    "css-line-height": "Outlook for Windows rounds it.",
    "css-margin": "only zero or positive on top of p and headings, which all know.",
    "css-max-height": "Outlook for Windows: of the preheader alone, hidden there by its size.",
    "css-max-width": "Outlook for Windows gets a table of 600 px around ours.",
    "css-overflow": "of the preheader alone, which other rules hide as well.",
    "css-padding": "Outlook for Windows knows it on table cells; on the marker it is decoration.",
    "css-selector-attribute": "they speak to Outlook.com's dark mode, in a style element of their"
    " own that others may drop.",
    "css-selector-class": "Gmail's mobile web drops style elements; everything needed is inlined.",
    "css-selector-descendant": "see css-selector-class.",
    "css-selector-grouping": "see css-selector-class.",
    "css-selector-type": "see css-selector-class.",
    "css-text-decoration": "links lose their underline, or keep it: they are blue and bold.",
    "css-width": "in a rule for phones; the cell's width attribute says it to the others.",
    "css-word-break": "where break-word is unknown, an endless word widens the mail as it always"
    " did.",
    "html-align": "Outlook for Mac: without it the column stands on the left.",
    "html-body": "webmail makes it a div; the outer table repeats its ground and direction.",
    "html-dir": "Gmail's mobile web and Outlook for Windows: on html, body and the outer table, so"
    " that one remains.",
    "html-doctype": "three programs use their own; the mail needs no standards mode.",
    "html-lang": "Yahoo takes it off html; the outer table has it too.",
    "html-meta-color-scheme": "only Apple Mail on the Mac heeds it; the media query does the work.",
    "html-role": "Yahoo drops it: a screen reader there may announce the layout's tables.",
    "html-style": "Gmail's mobile web drops it, others limit it; everything needed is inlined.",
    "html-width": "Outlook for Windows: on tables and cells it is right, and only they have one.",
}


@pytest.fixture(scope="module")
def features() -> set[str]:
    """What the richest mail uses."""
    site = replace(mails.SITE, sample=True)
    chosen = mails.entries()
    chosen[1] = replace(chosen[1], reasons=(Reason(kind="fresh"),))
    chosen.append(mails.entry(9, card=False, signals={}, categories=("cs.AI",)))
    html, _ = mails.mail(Renderer(mails.TEMPLATES, site), chosen)
    return set(used(html))


@pytest.fixture(scope="module")
def data(shared_data: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads((shared_data / "email_support" / "caniemail.json").read_text())["data"]
    return {row["slug"]: row for row in rows}


def used(html: str) -> Iterator[str]:
    """The names of all features in a document."""
    root = mails.document(html)
    if html.startswith("<!DOCTYPE html>"):
        yield "doctype"
    for element in root.iter():
        if not isinstance(element.tag, str):
            yield "comment"  # what stands in a conditional one is for Outlook on Windows alone
            continue
        yield f"<{element.tag}>"
        yield from (f"[{name}]" for name in element.attrib)
        yield from declared(element.get("style", ""))
        if element.tag == "meta" and "name" in element.attrib:
            yield f"meta {element.get('name')}"
        if element.tag == "style":
            yield from ruled(element.text or "")


def ruled(css: str) -> Iterator[str]:
    """The features of a style sheet: media queries, selectors, declarations."""
    for prelude, block in re.findall(r"(@[^{]+)\{((?:[^{}]*\{[^{}]*\})*)\s*\}", css):
        yield prelude.split()[0]
        yield from (f"media {name}" for name in re.findall(r"\(([\w-]+)", prelude))
        yield from ruled(block)
    rest = re.sub(r"@[^{]+\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", css)
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", rest):
        yield from selected(selectors.strip())
        yield from declared(body)


def selected(selectors: str) -> Iterator[str]:
    if "," in selectors:
        yield "selector grouping"
    for selector in re.split(r"\s*,\s*", selectors):
        for number, part in enumerate(selector.split()):
            if number:
                yield "selector descendant"
            for sign, kind in ((r"\.[\w-]+", "class"), (r"\[[^]]+\]", "attribute")):
                part, found = re.subn(sign, "", part)  # noqa: PLW2901
                if found:
                    yield f"selector {kind}"
            if part:
                yield "selector type" if part.isalnum() else f"selector {part}"


def declared(body: str) -> Iterator[str]:
    for declaration in filter(str.strip, body.split(";")):
        name, _, value = (piece.strip() for piece in declaration.partition(":"))
        yield name
        if "!important" in value:
            yield "!important"
        if name == "display":
            yield f"display: {value}"
        if name != "font-family":
            yield from (
                f"unit {unit}" for unit in re.findall(r"(?<![#\w])-?[\d.]+(%|[a-z]+)\b", value)
            )
            yield from (f"function {call}" for call in re.findall(r"([\w-]+)\(", value))


def lacking(feature: dict[str, Any]) -> list[str]:
    """The programs whose newest tested version does not fully support it."""
    found = []
    for family, platforms in PROGRAMS.items():
        for platform, versions in feature["stats"].get(family, {}).items():
            if platforms is None or platform in platforms:
                newest = list(versions.values())[-1]
                if not newest.startswith("y"):
                    found.append(f"{family} {platform}: {newest}")
    return found


def test_every_feature_is_known(features: set[str]) -> None:
    assert features - set(SLUGS) - set(BEYOND_DOUBT) == set()


def test_every_feature_is_supported_or_accepted(
    features: set[str], data: dict[str, dict[str, Any]]
) -> None:
    slugs = {SLUGS[feature] for feature in features if feature in SLUGS}
    doubtful = {slug: programs for slug in slugs if (programs := lacking(data[slug]))}
    assert {slug: doubtful[slug] for slug in doubtful.keys() - ACCEPTED.keys()} == {}
    assert ACCEPTED.keys() - doubtful.keys() == set()  # no excuse outlives its feature


def test_the_check_sees_what_is_not_supported(data: dict[str, dict[str, Any]]) -> None:
    assert lacking(data["css-display-grid"])
    seen = set(used('<p style="display:flex"></p><style>p > a:hover{width:calc(1vw)}</style>'))
    assert {"display: flex", "selector >", "function calc", "unit vw"} <= seen


def test_nothing_is_loaded_from_elsewhere(features: set[str]) -> None:
    """No image, font or sheet: nothing to block, and nobody learns that the mail was opened."""
    assert not {"<img>", "<link>", "[src]", "[background]", "function url"} & features
