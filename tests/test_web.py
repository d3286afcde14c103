"""The public pages: the papers of a day, what every answer carries, and what goes wrong."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from lxml import html
from starlette.types import Message

from digest.errors import Busy, SettingsError, TemplateError
from digest.storage import listings
from digest.tokens import Purpose
from digest.web.middleware import redacted
from digest.web.server import WebServer, listen
from tests.web_site import PROBE, SITE, TEMPLATES, Running, add_paper, sample, serving, token, words

DAY = datetime(2026, 5, 28, 6, tzinfo=UTC)
PAGES = ["/", "/papers/2026-05-28", "/inbox/", "/healthz", "/readyz", "/no/such/page"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture
def web(server: Running) -> Running:
    server.empty()
    return server


def titles(response: httpx.Response) -> list[str]:
    return [words(node) for node in html.fromstring(response.text).cssselect("article h2")]


# ------------------------------------------------------------------ the papers of a day


def test_the_front_page_has_the_newest_day_most_voted_first(web: Running) -> None:
    add_paper(web.engine, "Yesterday's", DAY - timedelta(days=1), signals={"upvotes": 900})
    add_paper(web.engine, "Two votes", DAY, signals={"upvotes": 2})
    add_paper(web.engine, "No votes", DAY + timedelta(hours=17, minutes=59))
    add_paper(web.engine, "Ten votes", DAY, signals={"upvotes": 10, "comments": 3})
    add_paper(web.engine, "Two, later", DAY + timedelta(hours=1), signals={"upvotes": 2})
    response = web.get("/")
    assert response.status_code == 200
    assert titles(response) == ["Ten votes", "Two, later", "Two votes", "No votes"]
    assert "Thursday, 28 May 2026 4 papers" in words(response)
    assert "10 votes" in words(response)


def test_merged_papers_are_not_listed(web: Running) -> None:
    kept = add_paper(web.engine, "Kept", DAY)
    add_paper(web.engine, "Merged", DAY, merged_into=kept)
    add_paper(web.engine, "Merged later", DAY + timedelta(days=1), merged_into=kept)
    assert titles(web.get("/")) == ["Kept"]
    with web.engine.connect() as connection:
        since = DAY.date() + timedelta(days=1)
        assert listings.around(connection, since, since) == (0, DAY.date(), None)
        assert listings.recent_days(connection) == [(DAY.date(), 1)]


def test_days_lead_to_their_neighbours_over_a_gap(web: Running) -> None:
    for past in (0, 1, 4):
        add_paper(web.engine, f"{past} days before", DAY - timedelta(days=past))
    page = html.fromstring(web.get("/papers/2026-05-27").text)
    assert page.cssselect("a[rel=prev]")[0].get("href") == "/papers/2026-05-24"
    assert page.cssselect("a[rel=next]")[0].get("href") == "/papers/2026-05-28"
    assert [link.get("href") for link in page.cssselect("aside a")] == [
        "/papers/2026-05-28",
        "/papers/2026-05-27",
        "/papers/2026-05-24",
    ]
    first = html.fromstring(web.get("/papers/2026-05-24").text)
    assert not first.cssselect("a[rel=prev]")


def test_a_day_without_papers_says_so_and_leads_on(web: Running) -> None:
    add_paper(web.engine, "Before", DAY - timedelta(days=1))
    add_paper(web.engine, "After", DAY + timedelta(days=1))
    response = web.get("/papers/2026-05-28")
    assert response.status_code == 404
    assert "No papers were listed on this day." in words(response)
    page = html.fromstring(response.text)
    assert page.cssselect("a[rel=prev]")[0].get("href") == "/papers/2026-05-27"
    assert page.cssselect("a[rel=next]")[0].get("href") == "/papers/2026-05-29"


def test_before_the_first_collection_the_page_says_so(web: Running) -> None:
    response = web.get("/")
    assert response.status_code == 200
    assert "No papers yet" in words(response)


@pytest.mark.parametrize(
    "path",
    [
        "/papers/20260528",
        "/papers/2026-W22-4",
        "/papers/2026-5-28",
        "/papers/2026-02-30",
        "/papers/today",
        "/papers/2026-05-28%0a",
        "/papers/0001-01-01",
        "/papers/9999-12-31",
        "/papers/",
        "/papers/2026-05-28?page=0",
        "/papers/2026-05-28?page=2",
        "/papers/2026-05-28?page=-1",
        "/papers/2026-05-28?page=x",
        "/papers/2026-05-28?page=%C2%B2",
        "/papers/2026-05-28?page=" + "9" * 5000,
    ],
)
def test_an_address_of_no_page_is_404(web: Running, path: str) -> None:
    add_paper(web.engine, "Only", DAY)
    assert web.get(path).status_code == 404


def test_a_long_day_is_paged(web: Running) -> None:
    for number in range(120):
        add_paper(web.engine, f"Paper {number:03}", DAY, abstract="We show much. " * 100)
    pages = [web.get(f"/papers/2026-05-28?page={page}") for page in (1, 2, 3)]
    assert titles(web.get("/")) == titles(pages[0])
    assert [title for page in pages for title in titles(page)] == [
        f"Paper {number:03}" for number in range(120)
    ]
    assert max(len(page.content) for page in pages) < 100_000
    assert "51 to 100 of 120" in words(pages[1])


def test_what_a_source_says_is_inert(web: Running) -> None:
    evil = "<script>alert(1)</script>\"' onload=x \u202egnp.exe {{ 7*7 }}"
    paper_id = add_paper(
        web.engine,
        evil,
        DAY,
        url="javascript:alert(1)",
        abstract=evil,
        authors=[evil],
        organisation=evil,
        links={"pdf": "data:text/html,x", "code": "javascript:x", "html": "https://example.org/h"},
        signals={"upvotes": 3, "stars": 4},
    )
    response = web.get("/")
    page = html.fromstring(response.text)
    assert not page.cssselect("script:not([src]), article [onload], article [style]")
    assert [link.get("href") for link in page.cssselect("article a")] == [
        f"/p/{paper_id}",
        "https://example.org/h",
    ]
    assert "\u202e" not in response.text
    assert "{{ 7*7 }}" in response.text


def test_a_withdrawn_paper_says_so(web: Running) -> None:
    add_paper(web.engine, "Gone", DAY, withdrawn=True)
    assert "Withdrawn" in words(web.get("/"))


def test_a_day_is_utc(web: Running) -> None:
    add_paper(web.engine, "Late", datetime(2026, 5, 27, 23, 59, 59, tzinfo=UTC))
    add_paper(web.engine, "Early", datetime(2026, 5, 28, tzinfo=UTC))
    with web.engine.connect() as connection:
        first, second, third = (date(2026, 5, day) for day in (27, 28, 29))
        assert listings.around(connection, first, second) == (1, None, second)
        assert listings.around(connection, second, third) == (1, first, None)
        assert listings.latest_day(connection, before=second) == first


# ------------------------------------------------------------------ labels


def test_sample_data_is_labelled_on_every_page(tmp_path: Path) -> None:
    with serving(tmp_path, site=sample()) as web:
        for path in ("/", "/inbox/", "/no/such/page"):
            assert "Papers that link to example.org are made up, to try things out." in words(
                web.get(path)
            )


def test_real_data_has_no_label(web: Running) -> None:
    assert "invented" not in words(web.get("/"))


def test_only_local_mode_speaks_of_the_inbox(tmp_path: Path, web: Running) -> None:
    assert "Mail stays on this machine. 0 emails in the inbox" in words(web.get("/"))
    (tmp_path / "real").mkdir()
    with serving(tmp_path / "real", local=False) as real:
        assert "inbox" not in real.get("/").text


def test_the_foot_names_who_runs_it(web: Running) -> None:
    page = html.fromstring(web.get("/").text)
    found = [str(link.get("href")) for link in page.cssselect("footer a")]
    assert [one for one in found if ":" in one] == [SITE.imprint_url, "mailto:privacy@example.org"]


# ------------------------------------------------------------------ every answer


@pytest.mark.parametrize("path", [*PAGES, "/u/broken", "/settings/broken"])
def test_every_answer_is_protected(web: Running, path: str) -> None:
    response = web.get(path)
    policy = response.headers["content-security-policy"]
    for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    assert "server" not in response.headers
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_the_body(web: Running, path: str) -> None:
    got, head = web.get(path), web.client.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    assert head.headers["content-length"] == str(len(got.content))


def test_pages_need_nothing_from_elsewhere(web: Running) -> None:
    add_paper(web.engine, "Only", DAY)
    page = html.fromstring(web.get("/").text)
    assert not page.cssselect("[style], style, img")
    for node in page.cssselect("link[rel=stylesheet], link[rel=icon], script"):
        path = str(node.get("href") or node.get("src"))
        asset = web.get(path)
        assert asset.status_code == 200
        assert "immutable" in asset.headers["cache-control"]
        assert len(asset.content) <= 12 * 1024
        assert re.search(r"\.[0-9a-f]{12}\.(css|svg|js)$", path)
        assert b"http" not in asset.content.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize(
    ("path", "method"),
    [("/", "POST"), ("/papers/2026-05-28", "DELETE"), ("/inbox/", "POST"), ("/healthz", "PUT")],
)
def test_another_method_is_refused_with_the_right_ones(
    web: Running, path: str, method: str
) -> None:
    response = web.client.request(method, path)
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert "This page cannot be used that way" in words(response)


def test_no_answer_redirects_by_host(web: Running) -> None:
    for path in ("/inbox", "/papers/2026-05-28/", "//evil.example/", "/healthz/"):
        response = web.get(path, host="evil.example")
        assert not response.is_redirect
        assert "evil.example" not in response.text


def test_a_long_body_is_refused(web: Running) -> None:
    path = "/u/" + token(Purpose.UNSUBSCRIBE, 1)
    body = b"List-Unsubscribe=One-Click&x=" + b"y" * 66_000
    form = {"content-type": "application/x-www-form-urlencoded"}
    known = web.client.post(path, content=body, headers=form)
    streamed = web.client.post(path, content=iter([body]), headers=form)
    assert (known.status_code, streamed.status_code) == (413, 413)
    assert "content-security-policy" in known.headers


def test_half_a_form_is_no_fault_of_ours(web: Running) -> None:
    """Whoever goes away in the middle of it leaves one line in the log and no trace."""
    half = {"type": "http.request", "body": b"List-Unsubscribe=", "more_body": True}
    events: list[Message] = [{"type": "http.disconnect"}, half]
    sent: list[Message] = []
    path = "/u/" + token(Purpose.UNSUBSCRIBE, 1)
    kind = (b"content-type", b"application/x-www-form-urlencoded")

    async def receive() -> Message:
        return events.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [kind], "query_string": b""}

    async def ask() -> None:
        await web.app(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 400


def test_healthz_is_alive_and_readyz_says_what_is_wrong(tmp_path: Path) -> None:
    probe = replace(PROBE, ready=lambda: ["Run: digest migrate"])
    with serving(tmp_path, probe=probe) as web:
        assert (web.get("/healthz").status_code, web.get("/healthz").text) == (200, "ok")
        response = web.get("/readyz")
        assert (response.status_code, response.text) == (503, "Run: digest migrate")


def test_a_fault_of_ours_is_a_page_in_the_same_look(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[str]:
        raise RuntimeError("the cable fell out")

    with serving(tmp_path, probe=replace(PROBE, ready=fail)) as web:
        response = web.get("/readyz")
    assert response.status_code == 500
    assert "The fault is on our side" in words(response)
    assert "cable" not in response.text
    assert "content-security-policy" in response.headers
    assert "the cable fell out" in caplog.text


# ------------------------------------------------------------------ the log


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/", "/"),
        ("/papers/2026-05-28", "/papers/2026-05-28"),
        ("/u/abc", "/u/<token>"),
        ("/u/" + "A1-_" * 10, "/u/<token>"),
        ("/u/abc/def", "/u/<token>"),
        ("/settings/abc", "/settings/<token>"),
        ("//u/" + "A1-_" * 10, "//u/<token>"),
        ("/U/x" + "A1-_" * 10 + "...", "/U/<token>..."),
        ("/a\r\nGET /b", "/a%0D%0AGET%20/b"),
        ("/é\x1b[31m", "/%C3%A9%1B%5B31m"),
    ],
)
def test_a_path_is_logged_without_its_token(path: str, logged: str) -> None:
    assert redacted(path) == logged


def test_no_token_is_in_the_log(web: Running, caplog: pytest.LogCaptureFixture) -> None:
    secret = token(Purpose.UNSUBSCRIBE, 1)
    with caplog.at_level(logging.DEBUG):
        for path in (
            f"/u/{secret}",
            f"/settings/{secret}",
            f"/u/{secret}x",
            f"/x/{secret}?{secret}",
        ):
            web.get(path, referer=f"http://localhost/u/{secret}")
        web.client.post(f"/u/{secret}", data={"List-Unsubscribe": "One-Click"})
    ours = [record for record in caplog.records if not record.name.startswith(("http", "hpack"))]
    assert any(record.getMessage().startswith("GET /u/<token> 200 in ") for record in ours)
    assert not any(secret in repr(record.__dict__) for record in ours)


# ------------------------------------------------------------------ the server


def test_a_taken_port_is_said_or_the_next_one_found() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Busy, match=f"port {port} is taken"):
            listen("127.0.0.1", port)
        with listen("127.0.0.1", port, search=True) as found:
            assert found.getsockname()[1] > port


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(SettingsError, match=r"Cannot listen on 192\.0\.2\.1, port 8000: .+\."):
        listen("192.0.2.1", 8000)


def test_the_server_is_gone_after_the_block(tmp_path: Path) -> None:
    with serving(tmp_path) as web:
        host, port = "127.0.0.1", web.client.base_url.port
        assert web.get("/healthz").text == "ok"
    assert port is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=1)


def test_a_server_stopped_at_once_stops() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    with WebServer(app, listen("127.0.0.1", 0)) as server:
        assert server.port > 0


def test_missing_templates_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"base\.html"), serving(tmp_path, templates=tmp_path):
        pass


def test_no_template_switches_escaping_off() -> None:
    for template in TEMPLATES.glob("web/**/*.html"):
        assert not re.search(r"\|\s*safe|autoescape|Markup", template.read_text("utf-8"))
