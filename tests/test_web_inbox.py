"""The local inbox's pages: what arrived, as its reader would see it, for this machine alone."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from lxml import html

from digest import inbox
from digest.inbox import Inbox
from tests.web_site import Running, serving, words

EVIL = "<html><head><title>x</title></head><body><script>parent.x()</script><p>Hi</p></body></html>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture
def web(server: Running) -> Running:
    server.empty()
    return server


def deliver(web: Running, *subjects: str, content: str = EVIL) -> list[str]:
    """Send mails over SMTP; their names, newest first."""
    with Inbox(web.inbox) as server, smtplib.SMTP(server.host, server.port) as client:
        for subject in subjects:
            message = EmailMessage()
            message["From"], message["To"] = "digest@example.org", "kim@example.org"
            message["Subject"] = subject
            message.set_content("In <words>.\n")
            message.add_alternative(content, subtype="html")
            client.send_message(message)
    return inbox.keys(web.inbox)


def test_the_list_is_newest_first(web: Running) -> None:
    keys = deliver(web, "One", "<b>Two</b>")
    page = html.fromstring(web.get("/inbox/").text)
    assert [link.get("href") for link in page.cssselect(".mails a")] == [
        f"/inbox/{key}" for key in keys
    ]
    subjects = [words(node) for node in page.cssselect(".mails .subject")]
    assert subjects == ["<b>Two</b>", "One"]
    assert "kim@example.org" in words(page)
    assert "2 emails in the inbox" in words(page)


def test_an_empty_inbox_says_so(web: Running) -> None:
    assert "No mail yet." in web.get("/inbox/").text


def test_a_long_list_is_paged(web: Running) -> None:
    deliver(web, *(f"Mail {number}" for number in range(60)))
    assert len(html.fromstring(web.get("/inbox/").text).cssselect(".mails li")) == 50
    assert len(html.fromstring(web.get("/inbox/?page=2").text).cssselect(".mails li")) == 10
    for page in ("0", "3", "x", "01", "9" * 5000):
        assert web.get(f"/inbox/?page={page}").status_code == 404


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("html", "Desktop, 700 px"),
        ("text", "In &lt;words&gt;."),
        ("source", "Return-Path: &lt;"),
        ("headers", "<dt>Delivered-To</dt>"),
    ],
)
def test_each_view_shows_its_side(web: Running, view: str, shown: str) -> None:
    [key] = deliver(web, "One")
    response = web.get(f"/inbox/{key}?view={view}")
    assert response.status_code == 200
    assert shown in response.text
    assert "<script" not in response.text.replace('<script src="/static/', "")
    current = html.fromstring(response.text).cssselect(".tabs [aria-current]")
    assert words(current[0]).lower() == view


def test_a_mail_is_framed_without_script_or_origin(web: Running) -> None:
    [key] = deliver(web, "One")
    [frame] = html.fromstring(web.get(f"/inbox/{key}").text).cssselect("iframe")
    assert frame.get("src") == f"/inbox/{key}/html"
    assert set(str(frame.get("sandbox")).split()) == {
        "allow-popups",
        "allow-popups-to-escape-sandbox",
    }


@pytest.mark.parametrize("width", ["desktop", "phone"])
def test_the_width_is_a_link(web: Running, width: str) -> None:
    [key] = deliver(web, "One")
    page = html.fromstring(web.get(f"/inbox/{key}?width={width}").text)
    assert page.cssselect("iframe")[0].get("class") == width


def test_the_framed_document_has_its_own_policy(web: Running) -> None:
    [key] = deliver(web, "One")
    response = web.get(f"/inbox/{key}/html")
    rules = {rule.strip() for rule in response.headers["content-security-policy"].split(";")}
    assert rules == {
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "sandbox allow-popups allow-popups-to-escape-sandbox",
        "frame-ancestors 'self'",
    }
    assert response.headers["cache-control"] == "no-store"
    assert '<head><base target="_blank"><title>' in response.text


def test_mails_lead_to_their_neighbours(web: Running) -> None:
    newest, middle, oldest = deliver(web, "One", "Two", "Three")
    page = html.fromstring(web.get(f"/inbox/{middle}?view=text&width=phone").text)
    assert page.cssselect("a[rel=prev]")[0].get("href") == f"/inbox/{newest}?view=text&width=phone"
    assert page.cssselect("a[rel=next]")[0].get("href") == f"/inbox/{oldest}?view=text&width=phone"
    assert not html.fromstring(web.get(f"/inbox/{newest}").text).cssselect("a[rel=prev]")
    assert not html.fromstring(web.get(f"/inbox/{oldest}").text).cssselect("a[rel=next]")


def test_a_mail_of_words_alone_opens_as_text(web: Running) -> None:
    with Inbox(web.inbox) as server, smtplib.SMTP(server.host, server.port) as client:
        client.sendmail("", ["a@example.org"], b"Subject: plain\r\n\r\nHello\r\n")
    [key] = inbox.keys(web.inbox)
    page = html.fromstring(web.get(f"/inbox/{key}").text)
    assert words(page.cssselect("pre")[0]) == "Hello"
    assert web.get(f"/inbox/{key}/html").status_code == 404
    assert web.get(f"/inbox/{key}?view=html").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/inbox/none",
        "/inbox/none/html",
        "/inbox/..%2f..%2fdigest.db",
        "/inbox/%2e%2e/digest.db",
        "/inbox/{key}?view=evil",
        "/inbox/{key}?width=9000",
        "/inbox/{key}/",
        "/inbox/{key}/source",
    ],
)
def test_an_address_of_no_mail_is_404(web: Running, path: str) -> None:
    [key] = deliver(web, "One")
    assert web.get(path.format(key=key)).status_code == 404


def test_a_mail_that_goes_while_it_is_read_is_404(web: Running) -> None:
    [key] = deliver(web, "One")
    (web.inbox / "new" / key).unlink()
    assert web.get(f"/inbox/{key}").status_code == 404


# ------------------------------------------------------------------ for this machine alone


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param({"host": "localhost"}, 200, id="localhost"),
        pytest.param({"host": "LOCALHOST:8000"}, 200, id="localhost-port"),
        pytest.param({"host": "127.0.0.1:8001"}, 200, id="ipv4"),
        pytest.param({"host": "[::1]:8000"}, 200, id="ipv6"),
        pytest.param({"host": "digest.example.org"}, 404, id="name"),
        pytest.param({"host": "localhost.evil.example"}, 404, id="prefix"),
        pytest.param({"host": "evil.example:80@localhost"}, 404, id="user"),
        pytest.param({"host": "127.0.0.1.nip.example"}, 404, id="rebinding"),
        pytest.param({"host": "localhost:8000:9"}, 404, id="two-ports"),
        pytest.param({"host": ""}, 404, id="empty"),
        pytest.param({"forwarded": "for=192.0.2.1"}, 404, id="forwarded"),
        pytest.param({"x-forwarded-for": "192.0.2.1"}, 404, id="x-forwarded-for"),
        pytest.param({"x-forwarded-host": "localhost"}, 404, id="x-forwarded-host"),
        pytest.param({"X-Forwarded-Anything": ""}, 404, id="x-forwarded-anything"),
    ],
)
def test_only_this_machine_sees_mail(web: Running, headers: dict[str, str], code: int) -> None:
    [key] = deliver(web, "Secret")
    for path in ("/inbox", "/inbox/", f"/inbox/{key}", f"/inbox/{key}/html"):
        response = web.get(path, **headers)
        assert response.status_code == code
        assert code == 200 or "Secret" not in response.text
    front = web.get("/", **headers).text
    assert ("1 email in the inbox" in front) is (code == 200)


def test_there_is_no_inbox_beside_a_real_mail_server(tmp_path: Path) -> None:
    with serving(tmp_path, local=False) as web:
        [key] = deliver(web, "Secret")
        for path in ("/inbox", "/inbox/", f"/inbox/{key}", f"/inbox/{key}/html"):
            response = web.get(path)
            assert response.status_code == 404
            assert response.text == web.get("/no/such/page").text
