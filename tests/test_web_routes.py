"""Every address of the application, as its own table of routes names them: whatever is sent there,
it is answered, the answer is protected, and nothing that was sent comes back as markup.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from digest.tokens import Purpose, sign
from digest.web.build import build
from digest.web.middleware import PRIVATE_PATH, TOKENS
from tests.local_house import NOW, local_house
from tests.test_get_changes_nothing import every_kind_of_mail, links_of_mails

MARKUP = "\"'><svg onload=x>"
HOSTILE = (
    *(MARKUP, "\0", "a\0b", "9" * 5_000, "x" * 9_000, "-1", "1", "2", "٣", "😀", "\u202e\u2066"),
    *("2026-05-28", "2026-05", "2026-W22", "https://evil.example/", "//evil.example", "' OR 1=1"),
    *("../../etc/passwd", "more", "mute", "agents", "(agents", "yes", "date", "de"),
)
QUERY = ("q", "page", "by", "lang", "search", "done", "new", "view", "width")
FIELDS = (
    *("email", "website", "source", "topic", "search", "what", "until", "paper", "action", "zone"),
    *("hour", "weekday", "frequency", "confirm", "why", "comment", "List-Unsubscribe", "locale"),
    *("max_papers", "min_score", "detail", "quiet_day", "plain", "searches", "authors", "labs"),
    *("seeds", "words", "muted"),
)
# But for "renew", after which the other links would be worth nothing.
WHAT = (
    *("save", "preview", "pause", "resume", "renew_saved", "move", "export", "erase", "take_back"),
    *("more", "not more", "less", "not save", "mute", "not mute", "undo", "weekly", "why"),
)
KINDS = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "text/plain",
         "multipart/form-data; boundary=b; charset=unicode_escape", "multipart/form-data",
         "multipart/form-data; boundary=b; charset=\xff", "application/json", "")  # fmt: skip
_networks = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """A house with all its routes, and a good token for each of them that takes one."""

    client: httpx.Client
    routes: Sequence[Route]
    tokens: Mapping[str, str]  # by the part of the path before it


def tokens_in(text: str) -> dict[str, str]:
    """The tokens of the links there, by the part of the path before them."""
    return dict(re.findall(r"/(\w+)/([\w-]{40})\b", text))


@pytest.fixture
def town(tmp_path: Path, database_url: str) -> Iterator[Town]:
    with (
        local_house(tmp_path, database_url) as house,
        httpx.Client(base_url=house.url, timeout=60) as client,
    ):
        every_kind_of_mail(house)
        found = tokens_in(" ".join(links_of_mails(house)))
        found |= tokens_in(client.get(f"/me/{found['me']}").text)
        secrets = house.services.secrets
        found["settings"] = found["me"]
        found["choose"] = sign(Purpose.CHOOSE, 7, secrets=secrets, now=NOW)
        way_out = sign(Purpose.UNSUBSCRIBE, 1, secrets=secrets, now=NOW)
        left = client.post(f"/u/{way_out}", data={"confirm": "yes"}).text
        found["undo"] = tokens_in(left)["undo"]
        # Another one's, for who has left has no way to say more.
        found["u"] = sign(Purpose.UNSUBSCRIBE, 2, secrets=secrets, now=NOW)
        client.post(f"/undo/{found['undo']}", data={"what": "undo"})
        assert found.keys() == set(TOKENS.split("|"))
        routes = [route for route in build(house.services).routes if isinstance(route, Route)]
        yield Town(client=client, routes=routes, tokens=found)


def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """A form in one of the ways in which forms are sent, right or wrong, and what it says it is."""
    kind = draw(st.sampled_from(KINDS))
    values = st.sampled_from(HOSTILE) | st.text(max_size=30)
    form = draw(st.dictionaries(st.sampled_from(FIELDS), values, max_size=6))
    if draw(st.booleans()):
        form["what"] = draw(st.sampled_from(WHAT))
    if kind.startswith("multipart"):
        whole = "".join(
            f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\\ud800\r\n'
            for name, value in form.items()
        )
        return kind, f"{whole}--b--\r\n".encode("utf-8", "replace")
    found = "&".join(f"{name}={_quoted(value)}" for name, value in form.items())
    return kind, found.encode()


@st.composite
def requests(draw: st.DrawFn, route: Route, tokens: Mapping[str, str]) -> dict[str, Any]:
    """A request to a route: one of its methods, or another; good tokens or other text."""
    text = st.sampled_from(HOSTILE) | st.text(max_size=30)
    before = route.path.split("/")[1]

    def part(found: re.Match[str]) -> str:
        if found[1] == "token" and draw(st.integers(0, 3)):
            return tokens[before]
        if found[1] == "item" and draw(st.booleans()):
            return "1"
        return _quoted(draw(text))

    method = draw(st.sampled_from([*sorted(route.methods or ()), "POST", "OPTIONS"]))
    path = re.sub(r"\{(\w+)(?::\w+)?\}", part, route.path)
    if method == "POST" and before == "erase":
        path = "/erase/x"  # after it nobody would have a good token any more
    asked = draw(st.dictionaries(st.sampled_from(QUERY), text, max_size=3))
    query = "&".join(f"{name}={_quoted(value)}" for name, value in asked.items())
    headers = {"Accept-Language": draw(st.sampled_from(["", "de", "ja;q=x", "*" * 999, MARKUP]))}
    if draw(st.booleans()):
        headers["If-None-Match"] = draw(st.sampled_from(["*", '"x"', 'W/"', "\xff"]))
    number = next(_networks)
    headers["X-Forwarded-For"] = f"198.{18 + number // 250}.{number % 250}.7"
    content = b""
    if method == "POST":
        headers["Content-Type"], content = bodies(draw)
    return {
        "method": method,
        "url": f"{path}?{query}",
        "headers": [(name, value.encode("latin-1")) for name, value in headers.items()],
        "content": content,
    }


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "replace"), safe="")


def test_every_route_answers_whatever_is_sent(town: Town) -> None:
    for route in town.routes:
        before = route.path.split("/")[1]
        if "{token}" in route.path:  # else all that follows would knock at closed doors
            path = route.path.replace("{token}", town.tokens[before])
            path = path.replace("{item}", "1").replace("{action}", "more")
            assert town.client.get(path).status_code == 200, route.path

        @settings(
            max_examples=3 if "{" not in route.path and route.methods == {"GET", "HEAD"} else 12,
            suppress_health_check=[HealthCheck.too_slow],
            database=None,
        )
        @given(request=requests(route, town.tokens))
        def is_answered(request: dict[str, Any]) -> None:
            answer = town.client.request(**request)
            assert answer.status_code < 500, request
            for name in ("content-security-policy", "x-content-type-options", "referrer-policy"):
                assert name in answer.headers, request
            assert "set-cookie" not in answer.headers
            if PRIVATE_PATH.match(answer.url.path):
                assert answer.headers["cache-control"] == "no-store", request
                assert answer.headers["x-robots-tag"] == "noindex", request
            if "location" in answer.headers:
                assert re.match(r"/(?!/)", answer.headers["location"]), request
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert "<svg onload" not in answer.text, request

        is_answered()
