"""What a reader asks of any page: whose papers and votes these are, and where to go from here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from digest import locales
from digest.services import build, with_sources
from digest.settings import Settings
from digest.web import WebSite
from digest.web.build import named_sources
from digest.web.view import load_assets, load_templates
from tests.house import KEY
from tests.web_site import SITE, TEMPLATES, Running, add_paper, serving, words

DAY = datetime(2026, 5, 28, 6, tzinfo=UTC)  # a Thursday


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture
def web(server: Running) -> Running:
    server.empty()
    return server


def render(template: str, *, site: WebSite, **values: Any) -> Any:
    """A page by itself."""
    folder = TEMPLATES / "web"
    made = load_templates(folder)["en"].get_template(template)
    shown = {"language": locales.language("en"), "assets": load_assets(folder / "static")}
    return html.fromstring(made.render(site=site, mails=None, **shown, **values))


# ------------------------------------------------------------------ whose is this?


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (
            ("Hugging Face Daily Papers", "arXiv"),
            (
                "Papers from Hugging Face Daily Papers and arXiv."
                " Votes by readers of Hugging Face Daily Papers."
            ),
        ),
        (("arXiv",), "Papers from arXiv."),
        (("arXiv", "lab", "blog"), "Papers from arXiv, lab and blog."),
        ((), ""),  # they are made up
    ],
)
def test_the_foot_says_where_the_papers_are_from(sources: tuple[str, ...], said: str) -> None:
    page = render("empty.html", site=replace(SITE, sources=sources))
    [foot] = page.cssselect("footer")
    assert said in words(foot)
    assert ("Papers from" in words(foot)) == bool(said)
    assert ("Hugging Face" in words(foot)) == ("Hugging Face" in said)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ("Hugging Face Daily Papers", "arXiv")),
        ({"sources": ("arxiv",)}, ("arXiv",)),
        ({"sources": ("feeds",), "feeds": (("lab", "https://example.org/rss"),)}, ("lab",)),
        ({"categories": ()}, ("Hugging Face Daily Papers",)),
    ],
)
def test_what_is_read_is_named_and_nothing_else(
    tmp_path: Path, settings: dict[str, Any], names: tuple[str, ...]
) -> None:
    services = build(Settings(data_dir=tmp_path, secret_key=(KEY,), **settings))
    try:
        assert named_sources(services) == names
        assert named_sources(with_sources(services, services.sources, sample=True)) == ()
    finally:
        services.engine.dispose()


@pytest.mark.parametrize("sources", [["huggingface", "arxiv"], ["arxiv"], []])
def test_whose_votes_these_are(web: Running, sources: list[str]) -> None:
    paper_id = add_paper(web.engine, "Voted for", DAY, signals={"upvotes": 3}, sources=sources)
    page = html.fromstring(web.get(f"/p/{paper_id}").text)
    [votes] = page.cssselect("aside[aria-labelledby=votes]")
    said = "Votes by readers of Hugging Face Daily Papers." in words(votes)
    assert said == ("huggingface" in sources)


# ------------------------------------------------------------------ another day


@pytest.mark.parametrize(
    ("written", "leads_to"),
    [
        ("2026-05-20", "/papers/2026-05-20"),
        ("+2026-05-20", "/papers/2026-05-20"),
        ("2026-W22", "/papers/2026-W22"),
        ("2026-05", "/papers/2026-05"),
    ],
)
def test_a_day_that_is_chosen_has_its_page(web: Running, written: str, leads_to: str) -> None:
    answer = web.get(f"/papers?on={written}")
    assert (answer.status_code, answer.headers["location"]) == (303, leads_to)


@pytest.mark.parametrize("written", ["yesterday", "//evil.example", "2026-02-30", "28.05.2026"])
def test_what_is_no_day_is_not_gone_to(web: Running, written: str) -> None:
    assert web.get(f"/papers?on={written}").status_code == 404


def test_any_day_can_be_chosen_beside_the_list(web: Running) -> None:
    for past in (0, 3):
        add_paper(web.engine, f"{past} days before", DAY - timedelta(days=past))
    for path, shown in {"/": "2026-05-28", "/papers/2026-05-20": "2026-05-20", "/week": ""}.items():
        [form] = html.fromstring(web.get(path).text).cssselect("form[action='/papers']")
        [day] = form.cssselect("input")
        assert (form.get("method"), day.get("name"), day.get("type")) == (None, "on", "date")
        assert (day.get("value"), day.get("max")) == (shown, "2026-05-28")
    for path in ("/papers", "/papers?on="):  # nothing chosen: the newest
        assert "0 days before" in words(web.get(path))


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("2026-05-26", "2026-05-25"),
        ("2026-05-27", "2026-05-28"),
        ("2020-01-01", "2026-05-20"),
        ("2030-01-01", "2026-05-28"),
        ("2026-05-23", "2026-05-25"),
        ("2026-W01", "2026-W21"),
        ("2026-07", "2026-05"),
    ],
)
def test_a_day_without_papers_leads_to_the_nearest(web: Running, path: str, nearest: str) -> None:
    for day in (20, 25, 28):
        add_paper(web.engine, f"Of the {day}th", DAY.replace(day=day))
    answer = web.get(f"/papers/{path}")
    assert answer.status_code == 404
    [link] = html.fromstring(answer.text).cssselect(".none a")
    assert link.get("href") == f"/papers/{nearest}"


# ------------------------------------------------------------------ where to go from here


# Who has come to the end of something is led on: to the papers, or to their preferences.
ENDS: list[tuple[str, dict[str, Any], set[str]]] = [
    *(("changed.html", {"moved": moved}, {"/", "/me"}) for moved in ("moved", "taken", "over")),
    ("changed.html", {"moved": "waiting"}, {"/"}),  # the other address has the button
    ("back.html", {"what": "undo"}, {"/", "/me"}),
    ("bad_link.html", {"expired": False, "anew": False, "errors": {}}, {"/", "/me"}),
    ("confirmed.html", {}, {"/", "/me"}),
    ("erase.html", {"done": True}, {"/", "/subscribe"}),
    ("error.html", {"code": 404}, {"/"}),
    ("export.html", {}, {"/"}),
    ("left.html", {"undo": "", "errors": {}, "said": False}, {"/", "/subscribe"}),
    ("refused.html", {"refusal": "domain"}, {"/", "/subscribe"}),
    ("refused.html", {"refusal": "no mail"}, {"/", "/subscribe"}),
    ("refused.html", {"refusal": "network"}, {"/"}),
    ("empty.html", {}, {"/subscribe"}),
    ("unsubscribe.html", {}, {"/", "/me"}),
]


@pytest.mark.parametrize(("template", "values", "ways"), ENDS)
def test_no_page_is_a_dead_end(template: str, values: dict[str, Any], ways: set[str]) -> None:
    site = replace(SITE, signup_domains=("example.org",))
    for shown in (site, replace(site, public=False)):
        page = render(template, site=shown, **values)
        found = {str(link.get("href")) for link in page.cssselect("main a")}
        wanted = ways if shown.public else ways - {"/"}
        assert wanted <= found
        assert shown.public or "/" not in found


def test_a_closed_house_leads_on_too() -> None:
    site = replace(SITE, signup="closed")
    for template, values in (("subscribe.html", {"address": "", "errors": {}}),
                             ("left.html", {"undo": "", "errors": {}, "said": False}),
                             ("refused.html", {"refusal": "closed"})):  # fmt: skip
        page = render(template, site=site, **values)
        assert [str(link.get("href")) for link in page.cssselect("main a")] == ["/"]
