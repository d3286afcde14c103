"""What can be measured of the mail's looks: contrast, structure, and the mail without styles."""

from __future__ import annotations

import re

import pytest

from digest.rendering import Renderer
from tests import mails

AA = 4.5  # WCAG 2.2, 1.4.3: text below 24 px, or 18.66 px bold
LIGHT, DARK = "#ffffff", "#121212"
UNSEEN = ".preheader"


@pytest.fixture(scope="module")
def html() -> str:
    return mails.mail(Renderer(mails.TEMPLATES, mails.SITE), mails.entries())[0]


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance of `#rrggbb`."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def inks(css: str, ground: str) -> dict[str, tuple[str, str]]:
    """For each selector that sets a text colour: that colour, and the ground it stands on."""
    found = {}
    for selectors, body in re.findall(
        r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    ):
        ink = re.search(r"(?<![-\w])color:\s*(#\w{6})", body)
        own = re.search(r"background-color:\s*(#\w{6})", body)
        if ink:
            for selector in selectors.split(","):
                found[selector.strip()] = (ink[1], own[1] if own else ground)
    found.pop(UNSEEN, None)
    return found


def light() -> dict[str, tuple[str, str]]:
    return inks((mails.TEMPLATES / "email/style.css").read_text(), LIGHT)


def dark() -> dict[str, tuple[str, str]]:
    css = (mails.TEMPLATES / "email/client.css").read_text()
    [block] = re.findall(r"prefers-color-scheme: dark\) \{(.*)\}", css, re.DOTALL)
    return inks(block, DARK)


def test_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize(
    ("scheme", "selector", "ink", "ground"),
    [
        pytest.param(scheme, selector, *pair, id=f"{scheme} {selector}")
        for scheme, pairs in (("light", light()), ("dark", dark()))
        for selector, pair in pairs.items()
    ],
)
def test_text_can_be_read(scheme: str, selector: str, ink: str, ground: str) -> None:
    assert contrast(ink, ground) >= AA


def test_the_dark_knows_every_ink() -> None:
    assert light().keys() - {".page"} <= dark().keys()


def test_the_marker_sets_ground_ink_and_weight_in_the_tag(html: str) -> None:
    marked = mails.document(html).xpath("//*[@class='mark']")
    assert len(marked) == 8  # title and summary of three cards, two titles of lines
    for run in marked:
        assert run.tag == "strong"
        assert {"background-color", "color", "font-weight"} <= {
            declaration.split(":")[0].strip() for declaration in run.get("style").split(";")
        }


def test_tables_are_for_layout_and_say_so(html: str) -> None:
    tables = mails.document(html).xpath("//table")
    assert {table.get("role") for table in tables} == {"presentation"}
    assert {table.get("width") for table in tables} == {"100%"}


def test_the_document_has_language_direction_and_headings(html: str) -> None:
    root = mails.document(html)
    for element in (root, root.body.find("table")):
        assert (element.get("lang"), element.get("dir")) == ("en", "ltr")
    assert root.findtext(".//title") == "Invented Work 1: Agents that Read Slowly + 4 more"
    assert [h.text_content() for h in root.iter("h1")] == ["Paper Digest"]
    assert [h.text_content() for h in root.iter("h2")][-1] == "Also today"
    assert len(list(root.iter("h2"))) == 4


def test_without_styles_everything_is_still_said(html: str) -> None:
    root = mails.document(html)
    for style in root.xpath("//style"):
        style.drop_tree()
    words = " ".join(" ".join(root.itertext()).split())
    order = [
        "Thursday, 28 May 2026 · for your topics agents and reasoning",
        "Five papers for you, out of 431 new ones.",
        "99 votes Invented Work 1",
        "Topic: agents",
        "98 votes Invented Work 2",
        "Also today",
        "96 votes Invented Work 4",
        "You get this on weekdays at 8:00, Berlin time",
        "Unsubscribe",
    ]
    places = [words.index(said) for said in order]
    assert places == sorted(places)


def test_the_preheader_comes_first_and_is_hidden(html: str) -> None:
    first = mails.document(html).body[0]
    assert (first.text or "").startswith("Invented Work 2")
    assert "display:none" in first.get("style", "")


def test_outlook_gets_a_table_of_its_own_width(html: str) -> None:
    assert len(re.findall(r"<!--\[if mso\]><table [^>]*width=\"600\"", html)) == 1
    assert html.count("<!--[if mso]>") == html.count("<![endif]-->") == 3
