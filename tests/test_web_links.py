"""A mail's links: looking changes nothing, one click is enough, strangers learn nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from lxml import html
from sqlalchemy import select, update

from digest import schema
from digest.models import Frequency, Status, Wishes
from digest.storage.database import writing
from digest.tokens import Purpose, sign
from tests.web_site import (
    NOW,
    SECRETS,
    Running,
    add_subscriber,
    dump,
    serving,
    token,
    words,
)

ONE_CLICK = {"List-Unsubscribe": "One-Click"}
CONFIRM = {"confirm": "yes"}
DAILY = Wishes(name="Kim", zone="Europe/Berlin", hour=8, frequency=Frequency.DAILY, max_papers=12)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture
def web(server: Running) -> Running:
    server.empty()
    return server


@pytest.fixture
def kim(web: Running) -> int:
    return add_subscriber(web.engine, "Kim.Lee@example.org", DAILY)


def way_out(subscriber_id: int) -> str:
    return "/u/" + token(Purpose.UNSUBSCRIBE, subscriber_id)


def status(web: Running, subscriber_id: int) -> str:
    table = schema.subscriber
    with web.engine.connect() as connection:
        query = select(table.c.status).where(table.c.id == subscriber_id)
        return str(connection.execute(query).scalar_one())


def set_status(web: Running, subscriber_id: int, value: Status) -> None:
    table = schema.subscriber
    with writing(web.engine) as connection:
        connection.execute(update(table).where(table.c.id == subscriber_id).values(status=value))


# ------------------------------------------------------------------ leaving


def test_get_changes_nothing(web: Running, kim: int) -> None:
    before = dump(web.engine)
    settings = "/settings/" + token(Purpose.PREFERENCES, kim)
    links = {way_out(kim), settings}
    for path in (way_out(kim), settings):
        page = html.fromstring(web.get(path).text)
        links |= {str(link.get("href")) for link in page.cssselect("a[href^='/'], link")}
    for path in sorted(links) * 2:
        assert web.client.get(path).status_code == 200, path
        assert web.client.head(path).status_code == 200, path
    assert dump(web.engine) == before


def test_the_page_has_one_button_and_no_address(web: Running, kim: int) -> None:
    response = web.get(way_out(kim))
    page = html.fromstring(response.text)
    assert [words(button) for button in page.cssselect("button")] == ["Unsubscribe"]
    assert "kim" not in response.text.lower()


def test_one_click_urlencoded(web: Running, kim: int) -> None:
    response = web.client.post(way_out(kim), data=ONE_CLICK)
    assert response.status_code == 200
    assert "You are out" in response.text
    assert status(web, kim) == "unsubscribed"


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", "; charset=unicode_escape"])
def test_one_click_multipart(web: Running, kim: int, charset: str) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\n'
        b"One-Click\r\n--b--\r\n"
    )
    response = web.client.post(
        way_out(kim),
        content=body,
        headers={"content-type": f"multipart/form-data; boundary=b{charset}"},
    )
    assert response.status_code == 200
    assert status(web, kim) == "unsubscribed"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://mail.example.com", "sec-fetch-site": "cross-site"},
        {"origin": "null"},
        {"host": "evil.example"},
    ],
)
def test_one_click_comes_from_anywhere(web: Running, kim: int, headers: dict[str, str]) -> None:
    assert web.client.post(way_out(kim), data=ONE_CLICK, headers=headers).status_code == 200
    assert status(web, kim) == "unsubscribed"


@pytest.mark.parametrize("gone", [Status.UNSUBSCRIBED, Status.ERASED, Status.COMPLAINED])
def test_one_click_is_as_friendly_to_who_is_gone(web: Running, kim: int, gone: Status) -> None:
    first = web.client.post(way_out(kim), data=ONE_CLICK)
    set_status(web, kim, gone)
    again = web.client.post(way_out(kim), data=ONE_CLICK)
    unknown = web.client.post(way_out(987_654), data=ONE_CLICK)
    assert [one.status_code for one in (first, again, unknown)] == [200, 200, 200]
    said = [words(one) for one in (first, again, unknown)]
    assert all("You are out" in one and "no more digests" in one for one in said)
    assert [("Undo" in one) for one in said] == [True, gone is Status.UNSUBSCRIBED, False]
    assert web.get(way_out(kim)).text == web.get(way_out(987_654)).text
    assert status(web, kim) == gone


def test_one_click_works_after_a_rotation_and_for_ever(web: Running, kim: int) -> None:
    old = sign(Purpose.UNSUBSCRIBE, kim, secrets=SECRETS[1:], now=NOW - timedelta(days=365 * 30))
    assert web.client.post(f"/u/{old}", data=ONE_CLICK).status_code == 200
    assert status(web, kim) == "unsubscribed"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"List-Unsubscribe": "one-click"}, id="case"),
        pytest.param({"List-Unsubscribe": ""}, id="empty"),
        pytest.param({"List": "One-Click"}, id="other-name"),
        pytest.param({"confirm": "no"}, id="not-confirmed"),
    ],
)
def test_another_form_changes_nothing(web: Running, kim: int, data: dict[str, str]) -> None:
    response = web.client.post(way_out(kim), data=data)
    assert response.status_code == 400
    assert "Nothing was changed" in response.text
    assert status(web, kim) == "active"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        pytest.param("text/plain", b"List-Unsubscribe=One-Click", id="plain-text"),
        pytest.param("application/json", b'{"List-Unsubscribe":"One-Click"}', id="json"),
        pytest.param("multipart/form-data", b"x", id="no-boundary"),
        pytest.param("multipart/form-data; boundary=b", b"--b\r\nx", id="cut-multipart"),
        pytest.param("application/x-www-form-urlencoded", b"\xff\xfe%zz&&==", id="garbage"),
        pytest.param(
            "application/x-www-form-urlencoded", b"&".join([b"a=b"] * 1000), id="many-fields"
        ),
        pytest.param(
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"; filename="x"\r\n\r\n'
            b"One-Click\r\n--b--\r\n",
            id="file",
        ),
    ],
)
def test_another_body_changes_nothing(web: Running, kim: int, kind: str, content: bytes) -> None:
    response = web.client.post(way_out(kim), content=content, headers={"content-type": kind})
    assert response.status_code == 400
    assert status(web, kim) == "active"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param({}, 200, id="old-browser"),
        pytest.param({"sec-fetch-site": "same-origin"}, 200, id="same-origin"),
        pytest.param({"sec-fetch-site": "none"}, 200, id="typed"),
        pytest.param({"sec-fetch-site": "same-site"}, 403, id="same-site"),
        pytest.param({"sec-fetch-site": "cross-site"}, 403, id="cross-site"),
        pytest.param({"origin": "http://localhost:8000"}, 200, id="our-origin"),
        pytest.param({"origin": "http://localhost:8001"}, 403, id="other-port"),
        pytest.param({"origin": "https://evil.example"}, 403, id="other-origin"),
        pytest.param({"origin": "null"}, 403, id="hidden-origin"),
        pytest.param(
            {"sec-fetch-site": "cross-site", "origin": "http://localhost:8000"}, 403, id="both"
        ),
        pytest.param(
            {"origin": "http://evil.example", "host": "evil.example"}, 403, id="host-of-theirs"
        ),
    ],
)
def test_the_button_works_from_our_page_alone(
    web: Running, kim: int, headers: dict[str, str], code: int
) -> None:
    response = web.client.post(way_out(kim), data=CONFIRM, headers=headers)
    assert response.status_code == code
    assert status(web, kim) == ("unsubscribed" if code == 200 else "active")


def test_two_clicks_are_one(web: Running, kim: int) -> None:
    first = web.client.post(way_out(kim), data=CONFIRM)
    after = dump(web.engine)
    assert web.client.post(way_out(kim), data=CONFIRM).text == first.text
    assert dump(web.engine) == after


# ------------------------------------------------------------------ tokens


def bad_paths(subscriber_id: int) -> list[str]:
    good = token(Purpose.UNSUBSCRIBE, subscriber_id)
    preferences = token(Purpose.PREFERENCES, subscriber_id)
    return [
        f"/u/{good[:-1]}",
        f"/u/{good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
        f"/u/{good}x",
        f"/u/{good}%0a",
        f"/u/{preferences}",
        "/u/" + token(Purpose.UNSUBSCRIBE, subscriber_id, secrets=[b"f" * 32]),
        "/u/x",
        "/u/%F0%9F%98%80",
        f"/settings/{good}",
        f"/settings/{preferences[:-1]}",
        "/settings/" + token(Purpose.PREFERENCES, 987_654),
    ]


@pytest.mark.parametrize("number", range(11))
def test_a_bad_token_gets_help_and_no_clue(web: Running, kim: int, number: int) -> None:
    path = bad_paths(kim)[number]
    response = web.get(path)
    assert response.status_code == 404
    assert "This link does not work" in response.text
    assert "help@example.org" in response.text
    assert response.text == web.get("/u/other").text
    posted = web.client.post(path, data=ONE_CLICK)
    assert posted.status_code == 404
    assert status(web, kim) == "active"


@pytest.mark.parametrize("path", ["/u/{}", "/settings/{}", "/u/broken{}"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
def test_token_pages_are_private(web: Running, kim: int, path: str, method: str) -> None:
    purpose = Purpose.PREFERENCES if path.startswith("/s") else Purpose.UNSUBSCRIBE
    response = web.client.request(method, path.format(token(purpose, kim)))
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-robots-tag"] == "noindex"
    assert response.headers["referrer-policy"] == "same-origin"


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize("path", ["/me/", "/settings/"])
def test_preferences_open_by_the_link_with_the_address_masked(
    web: Running, kim: int, path: str
) -> None:
    response = web.get(path + token(Purpose.PREFERENCES, kim))
    assert response.status_code == 200
    assert "K…@example.org" in words(response)
    assert "Kim.Lee" not in response.text
    page = html.fromstring(response.text)
    [link] = page.cssselect("main a[href^='/u/']")
    assert web.client.post(str(link.get("href")), data=ONE_CLICK).status_code == 200
    assert status(web, kim) == "unsubscribed"


def test_who_has_left_is_told_so(web: Running, kim: int) -> None:
    set_status(web, kim, Status.UNSUBSCRIBED)
    response = web.get("/settings/" + token(Purpose.PREFERENCES, kim))
    assert "You are not getting any digests at the moment." in response.text
    assert "/u/" not in response.text


def test_the_erased_are_unknown(web: Running, kim: int) -> None:
    set_status(web, kim, Status.ERASED)
    assert web.get("/settings/" + token(Purpose.PREFERENCES, kim)).status_code == 404


def test_an_old_settings_link_says_where_the_new_one_is(web: Running, kim: int) -> None:
    old = sign(Purpose.PREFERENCES, kim, secrets=SECRETS, now=NOW - timedelta(days=366))
    response = web.get(f"/settings/{old}")
    assert response.status_code == 410
    assert "use the link in your newest email" in response.text
