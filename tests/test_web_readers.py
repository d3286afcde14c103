"""The readers' flows over HTTP, with the mails between: tune, say, leave, be forgotten."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import feedparser
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html
from sqlalchemy import delete, select
from starlette.requests import Request

from digest import inbox, schema
from digest.locales import language
from digest.models import Action, InterestKind, Status
from digest.pipeline.accounts import Opened, erase
from digest.pipeline.accounts.base import PATHS
from digest.storage import feedback, interests
from digest.storage.database import reading, writing
from digest.suppression import address_hashes, address_key
from digest.tokens import Purpose, sign
from digest.web.digests import _impersonal
from digest.web.view import Web, load_assets, load_templates
from tests.local_house import NOW, READER
from tests.readers import Readers, all_readers, digest, header, numbers, readers, to
from tests.web_site import SITE, TEMPLATES, dump, words

__all__ = ["all_readers", "digest", "readers"]


# ------------------------------------------------------------------ preferences


def test_every_preference_is_kept_and_shown_again(readers: Readers) -> None:
    person, link = readers.join()
    wanted = {
        **readers.form(link),
        "frequency": "weekdays",
        "hour": "18",
        "zone": "Asia/Tokyo",
        "topic": ["agents", "reasoning"],
        "searches": "world models\r\n\r\nMODELS world\r\nWorld  Models",
        "authors": "Ada Lovelace\nGrace Hopper",
        "labs": "Analytical Engines",
        "seeds": "https://arxiv.org/abs/2605.01234v2",
        "words": "benchmark",
        "muted": ["evaluation"],
        "max_papers": "5",
        "min_score": "40",
        "detail": "full",
        "quiet_day": "send",
        "plain": "yes",
        "locale": "en",
    }
    done = readers.post(link, **wanted, what="save")
    assert not html.fromstring(done.text or "<p>").cssselect(".errors"), words(done)
    assert (done.status_code, "done=save" in done.headers["location"]) == (303, True)
    assert "Saved." in words(readers.get(done.headers["location"]))
    after = readers.person(person.address)
    assert (after.frequency, after.hour, after.zone) == ("weekdays", 18, "Asia/Tokyo")
    assert after.topics == ("agents", "reasoning")
    assert (after.max_papers, after.min_score, after.detail) == (5, 0.4, "full")
    assert (after.quiet_day, after.plain) == ("send", True)
    with reading(readers.house.services.engine) as connection:
        found = interests.get(connection, person.id)
    kept = {(one.kind, one.key) for one in found.kept}
    assert kept == {
        (InterestKind.AUTHOR, "ada lovelace"),
        (InterestKind.AUTHOR, "grace hopper"),
        (InterestKind.LAB, "analytical engines"),
        (InterestKind.SEED, "arxiv 2605.01234"),
        (InterestKind.MUTED_WORD, "benchmark"),
        (InterestKind.MUTED_TOPIC, "evaluation"),
    }
    assert set(found.searches) == {"world models", "models world"}
    again = readers.form(link)
    assert again["authors"] == ["Ada Lovelace\nGrace Hopper"]
    emptied = {**again, "authors": "", "searches": "", "muted": []}
    assert readers.post(link, **emptied, what="save").status_code == 303
    with reading(readers.house.services.engine) as connection:
        found = interests.get(connection, person.id)
    assert not found.searches
    assert {one.kind for one in found.kept} == {
        InterestKind.LAB,
        InterestKind.SEED,
        InterestKind.MUTED_WORD,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("zone", "Mars/Olympus"),
        ("hour", "24"),
        ("hour", "-1"),
        ("hour", "²"),
        ("frequency", "hourly"),
        ("weekday", "7"),
        ("max_papers", "0"),
        ("max_papers", ""),
        ("min_score", "101"),
        ("detail", "all"),
        ("quiet_day", "maybe"),
        ("locale", "xx"),
        ("searches", "(unclosed"),
        ("searches", "\n".join(f"word{number}" for number in range(21))),
        ("searches", "word " * 40),
        ("authors", "!!!"),
        ("authors", "x" * 101),
        ("labs", "\n".join(f"Lab {number}" for number in range(101))),
        ("seeds", "not a paper"),
        ("words", "!!!"),
    ],
)
def test_a_mistake_is_said_beside_its_field_and_nothing_is_kept(
    readers: Readers, name: str, value: str
) -> None:
    link = LINKS.setdefault(id(readers), readers.join()[1])
    wanted = {**readers.form(link), name: value}
    before = dump(readers.house.services.engine)
    answer = readers.post(link, **wanted, what="save")
    assert answer.status_code == 422
    page = html.fromstring(answer.text)
    [said] = page.cssselect(f"#{name}-error")
    assert words(said)
    assert page.cssselect(f".errors a[href='#{name}']")
    assert dump(readers.house.services.engine) == before
    shown = readers.post(link, **wanted, what="preview")
    assert words(said).split(":")[-1].strip() in words(shown)


LINKS: dict[int, str] = {}


def test_a_preview_shows_the_form_and_keeps_nothing(readers: Readers) -> None:
    _, link = readers.join()
    before = dump(readers.house.services.engine)
    wanted = readers.form(link)
    usual = readers.post(link, **wanted, what="preview")
    few = readers.post(link, **{**wanted, "max_papers": "1"}, what="preview")
    plain = readers.post(link, **{**wanted, "plain": "yes"}, what="preview")
    nothing = readers.post(link, **{**wanted, "min_score": "100"}, what="preview")
    assert dump(readers.house.services.engine) == before
    titles = [len(html.fromstring(one.text).cssselect("h2.title")) for one in (usual, few)]
    assert (titles[0] > 1, titles[1]) == (True, 1)
    assert "there would be no digest" in words(nothing)
    assert html.fromstring(plain.text).cssselect("pre")
    for one in (usual, few, plain, nothing):
        policy = one.headers["content-security-policy"]
        assert "sandbox" in policy
        assert "script-src" not in policy
        assert "frame-ancestors 'self'" in policy


def test_pausing_and_going_on(readers: Readers) -> None:
    person, link = readers.join()
    for until in ("", "soon", "2026-05-28", "2036-01-01"):
        again = readers.post(link, what="pause", until=until)
        assert again.status_code == 422
        assert html.fromstring(again.text).cssselect("#until")[0].get("value") == until
    assert readers.post(link, what="pause", until="2026-06-10").status_code == 303
    assert readers.person(person.address).status is Status.PAUSED
    assert "Paused until" in words(readers.get(link))
    assert readers.post(link, what="resume").status_code == 303
    assert readers.person(person.address).status is Status.ACTIVE
    readers.post(readers.way_out(person), confirm="yes")
    for what in ("pause", "resume"):  # nothing is said to be done that was not
        done = readers.post(link, what=what, until="2026-06-10")
        assert "not getting any digests" in words(readers.get(done.headers["location"]))
        assert "Paused." not in words(readers.get(done.headers["location"]))
    assert readers.person(person.address).status is Status.UNSUBSCRIBED


@pytest.mark.parametrize("what", ["save", "take_back"])
def test_who_is_erased_while_they_press_a_button_stays_erased(
    readers: Readers, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, link = readers.join()
    form = readers.form(link)
    opened = Web.opened

    def slowly(web: Web, request: Request, purpose: Purpose) -> Opened:
        found = opened(web, request, purpose)
        erase(web.accounts, person.id)
        return found

    monkeypatch.setattr(Web, "opened", slowly)
    fields = {"authors": "Ada Lovelace", "zone": "Asia/Tokyo", "paper": "1", "action": "more"}
    assert readers.post(link, **form | fields, what=what).status_code == 404
    monkeypatch.undo()
    tables = dump(readers.house.services.engine)
    [row] = [row for row in tables["subscriber"] if row[0] == person.id]
    assert "Asia/Tokyo" not in row
    assert "Ada Lovelace" not in str(tables["interest"])


def test_new_links_end_the_old_ones_but_not_the_way_out(readers: Readers) -> None:
    person, link = readers.join()
    done = readers.post(link, what="renew")
    assert readers.get(link).status_code == 410
    assert readers.get(done.headers["location"]).status_code == 200
    way_out = sign(Purpose.UNSUBSCRIBE, person.id, secrets=readers.house.services.secrets, now=NOW)
    assert readers.get(f"/u/{way_out}").status_code == 200


def test_an_address_changes_when_both_agree(readers: Readers) -> None:
    person, link = readers.join()
    new = f"moved{next(numbers)}@example.net"
    again = readers.post(link, what="move", email="nobody")
    assert again.status_code == 422
    assert html.fromstring(again.text).cssselect("#email")[0].get("value") == "nobody"
    assert readers.post(link, what="move", email=new).status_code == 303
    mails = readers.mailed()
    assert sorted(to(mail) for mail in mails) == sorted([person.address, new])
    links = [readers.link("change", [mail]) for mail in mails]
    assert "One more step" in words(readers.post(links[0]))
    assert readers.person(person.address).id == person.id
    assert "has a new address" in words(readers.post(links[1]))
    assert readers.person(new).id == person.id
    assert "has a new address" in words(readers.post(links[0]))  # again says the same


def test_what_is_held_is_handed_out_once(readers: Readers) -> None:
    person, link = readers.join()
    assert readers.post(link, what="export").status_code == 303
    ticket = readers.link("export")
    assert readers.get(ticket).status_code == 200
    held = readers.post(ticket)
    assert held.headers["content-disposition"].startswith("attachment")
    assert person.address in held.text
    json.loads(held.content)
    assert readers.post(ticket).status_code == 410


def test_who_is_forgotten_is_in_no_table(readers: Readers) -> None:
    person, link = readers.join("Lone.Wolf@den.wolfsburrow.example")
    for what in ("save", "preview"):  # all that can be said
        wanted = {"searches": "wolfish words", "authors": "Wolf Wolfson", "labs": "Wolf Lab"}
        wanted |= {"words": "wolfram", "seeds": "2605.07777", "zone": "Arctic/Longyearbyen"}
        assert readers.post(link, **readers.form(link) | wanted, what=what).status_code < 400
    readers.house.services.plan_due()
    assert person.address in {to(mail) for mail in readers.mailed()}
    with reading(readers.house.services.engine) as connection:
        query = select(schema.digest.c.paper_ids).where(
            schema.digest.c.subscriber_id == person.id, schema.digest.c.reason == ""
        )
        [read] = connection.execute(query).scalars()
    with writing(readers.house.services.engine) as connection:
        feedback.give(connection, person.id, read[0], Action.MORE, now=NOW)
    readers.post("/me", email=person.address)
    readers.mailed()
    readers.post("/subscribe", email=person.address)  # not answered yet
    assert readers.post(link, what="move", email="wolf@wolfsburrow.example").status_code == 422
    with writing(readers.house.services.engine) as connection:  # enough for today; so tomorrow
        connection.execute(delete(schema.quota))
    assert readers.post(link, what="move", email="wolf@wolfsburrow.example").status_code == 303
    assert readers.post(link, what="erase").status_code == 303
    ticket = readers.link("erase")
    assert readers.get(ticket).status_code == 200
    secrets = readers.house.services.secrets
    key = address_key(person.address)
    assert "wolf" in str(dump(readers.house.services.engine)).lower()
    assert "Your data is erased" in words(readers.post(ticket))
    tables = dump(readers.house.services.engine)
    held = str(tables).lower()
    for trace in ("wolf", "2605.07777", "longyearbyen"):
        # In the schedule and the ledger an hour and a zone stay, which name nobody.
        found = [name for name, rows in tables.items() if trace in str(rows).lower()]
        assert found == (["schedule"] if trace == "longyearbyen" else []), trace
    [hash_] = [one for one in address_hashes(key, secrets=secrets) if one in held]
    assert [name for name, rows in tables.items() if hash_ in str(rows)] == ["suppression"]
    assert not [row for row in tables["feedback"] if row[0] == person.id]
    folder = readers.house.services.settings.data_dir
    for file in filter(Path.is_file, folder.rglob("*")):  # the inbox, the journal
        assert b"wolf" not in file.read_bytes().lower(), file
    assert "Your data is erased" in words(readers.post(ticket))
    assert readers.get(link).status_code == 404
    assert readers.post("/subscribe", email=person.address).status_code == 200
    assert readers.post(readers.link("confirm")).status_code == 303


# ------------------------------------------------------------------ leaving


def test_leaving_and_coming_back_within_the_hour(readers: Readers) -> None:
    person, link = readers.join()
    page = html.fromstring(readers.get(link).text)
    [way_out] = [str(a.get("href")) for a in page.cssselect("main a[href^='/u/']")]
    left = readers.post(way_out, confirm="yes")
    [undo] = {str(form.get("action")) for form in html.fromstring(left.text).cssselect("main form")}
    assert readers.person(person.address).status is Status.UNSUBSCRIBED
    assert "kept without your address" in words(
        readers.post(undo, what="say", why="too many", comment="ask me@example.org")
    )
    assert readers.post(undo, what="say", why="nonsense").status_code == 400
    assert readers.post(undo, what="dance").status_code == 400
    assert readers.post(undo, what="pause", until="yesterday").status_code == 422
    assert "once a week" in words(readers.post(undo, what="weekly"))
    after = readers.person(person.address)
    assert (after.status, after.frequency) == (Status.ACTIVE, "weekly")
    assert "Welcome back" in words(readers.post(undo, what="undo"))
    assert readers.get(undo).status_code == 200


# ------------------------------------------------------------------ from the mail


def test_opinions_are_given_and_taken_back(readers: Readers, digest: inbox.Mail) -> None:
    person = readers.person(READER)
    links = sorted(set(re.findall(rf"{readers.house.url}(/f/[\w-]+/1/\w+)", digest.html)))
    assert {link.rpartition("/")[2] for link in links} >= {"more", "less", "save"}
    assert all(len(link) <= 90 for link in links)
    more = next(link for link in links if link.endswith("/more"))
    before = dump(readers.house.services.engine)
    assert "rank higher in your next digests" in words(readers.get(more))
    assert dump(readers.house.services.engine) == before
    assert "From the next digest on" in words(readers.post(more, what="more"))
    assert "From the next digest on" in words(readers.post(more, what="more"))
    with reading(readers.house.services.engine) as connection:
        [given] = feedback.given(connection, person.id)
    assert given.action == "more"
    readers.post(more, what="save")
    readers.post(more, what="less")  # instead of more
    with reading(readers.house.services.engine) as connection:
        assert {one.action for one in feedback.given(connection, person.id)} == {"less", "save"}
    assert "Undone." in words(readers.post(more, what="not less"))
    for data in ({"what": "love"}, {}, {"what": "mute", "topic": "none"}):
        assert readers.post(more, **data).status_code == 400
    for bad in ("/999", "/0", "/1/love", "/x", "/-1", "/٣", "/" + "9" * 5_000):
        assert readers.get(more.rpartition("/1/")[0] + bad).status_code == 404


def test_a_topic_is_muted_by_its_papers_link(readers: Readers, digest: inbox.Mail) -> None:
    person = readers.person(READER)
    mute = min(re.findall(rf"{readers.house.url}(/f/[\w-]+/\d+/mute)", digest.html))
    page = html.fromstring(readers.get(mute).text)
    slug = str(page.cssselect("input[name=topic]")[0].get("value"))
    assert "stays out" in words(readers.post(mute, what="mute", topic=slug))

    def muted() -> set[str]:
        with reading(readers.house.services.engine) as connection:
            kept = interests.get(connection, person.id).kept
        return {one.value for one in kept if one.kind is InterestKind.MUTED_TOPIC}

    assert muted() == {slug}
    assert "is muted" in words(readers.get(mute))
    readers.post(mute, what="not mute", topic=slug)
    assert muted() == set()


def test_saved_papers_are_a_list_and_a_feed(readers: Readers, digest: inbox.Mail) -> None:
    [link] = set(re.findall(rf"{readers.house.url}/me/[\w-]+", digest.text))
    more = re.findall(rf"{readers.house.url}(/f/[\w-]+/2)/more", digest.html)[0]
    readers.post(f"{more}/save", what="save")
    page = html.fromstring(readers.get(link).text)
    [saved] = [str(a.get("href")) for a in page.cssselect("a[href*='/saved/']")]
    shown = html.fromstring(readers.get(saved).text)
    titles = [words(node) for node in shown.cssselect("article h2")]
    assert titles
    # Who has this link may read; to change anything takes the other one, which is mailed.
    assert not shown.cssselect("form[method=post]")
    assert "/me/" not in readers.get(saved).text
    assert shown.cssselect("main a[href='/me']")
    feed = readers.get(f"{saved}/feed.atom")
    assert feed.headers["cache-control"] == "no-store"
    assert [entry.title for entry in feedparser.parse(feed.content).entries] == titles
    assert readers.post(link, what="renew_saved").status_code == 303
    assert readers.get(saved).status_code == 410
    assert readers.get(f"{saved}/feed.json").status_code == 410


def test_the_digest_in_the_browser_can_be_passed_on(readers: Readers, digest: inbox.Mail) -> None:
    [view] = set(re.findall(rf"{readers.house.url}/v/[\w-]+", digest.text))
    page = readers.get(view)
    assert header(digest, "Subject") in words(page)
    assert html.fromstring(page.text).cssselect("form[action='/subscribe']")
    document = readers.get(f"{view}/mail")
    for text in (digest.html, document.text):
        assert "Forwarded to you? Subscribe" in words(html.fromstring(text))
    plain = " ".join(digest.text.split())
    assert f"Forwarded to you? Subscribe: {readers.house.url}/ " in plain
    sent, shown = (html.fromstring(text) for text in (digest.html, document.text))
    assert [words(node) for node in shown.cssselect("h2.title")] == [
        words(node) for node in sent.cssselect("h2.title")
    ]
    hrefs = [str(link.get("href")) for link in shown.cssselect("a")]
    assert not [link for link in hrefs if re.search(r"/(f|me|u|v|settings)/", link)]
    assert READER not in document.text
    assert "sandbox" in document.headers["content-security-policy"]


def test_no_link_of_ones_own_is_passed_on_whatever_the_house_was_called(
    readers: Readers, digest: inbox.Mail
) -> None:
    for name in ("", "https://old.example.org", "http://[::1]:8000/papers"):
        shown = _impersonal(digest.html.replace(readers.house.url, name or readers.house.url))
        hrefs = [str(link.get("href")) for link in html.fromstring(shown).cssselect("a")]
        assert hrefs
        assert not [link for link in hrefs if re.search(r"/\w+/[\w-]{40}", link)]


# ------------------------------------------------------------------ whatever is sent


def test_forms_from_other_sites_are_refused(readers: Readers, digest: inbox.Mail) -> None:
    person, link = readers.join()
    [undone] = {
        str(form.get("action"))
        for form in html.fromstring(
            readers.post(
                "/u/"
                + sign(
                    Purpose.UNSUBSCRIBE, person.id, secrets=readers.house.services.secrets, now=NOW
                ),
                confirm="yes",
            ).text
        ).cssselect("main form")
    }
    paths = [
        "/subscribe",
        "/me",
        link.removeprefix(readers.house.url),
        undone,
        re.findall(rf"{readers.house.url}(/f/[\w-]+/1)/more", digest.html)[0],
    ]
    before = dump(readers.house.services.engine)
    for path in paths:
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ):
            answer = readers.client.post(
                readers.house.url + path, data={"what": "undo"}, headers=headers
            )
            assert answer.status_code == 403, path
        for body in (b"{}", b""):
            answer = readers.client.post(
                readers.house.url + path, content=body, headers={"Content-Type": "text/plain"}
            )
            assert answer.status_code == 400, path
    assert dump(readers.house.services.engine) == before


TOKENS = (
    "u",
    "me",
    "settings",
    "confirm",
    "undo",
    "f",
    "v",
    "saved",
    "change",
    "export",
    "erase",
    "choose",
)


@pytest.mark.parametrize("path", TOKENS)
def test_a_token_of_another_purpose_opens_nothing(readers: Readers, path: str) -> None:
    person = readers.person(READER)
    end = "/1" if path == "f" else ""
    own = {"u": Purpose.UNSUBSCRIBE, "settings": Purpose.PREFERENCES, "me": Purpose.PREFERENCES}
    own |= {"f": Purpose.FEEDBACK, "v": Purpose.VIEW}
    for purpose in Purpose:
        if purpose == own.get(path, path):
            continue
        token = sign(purpose, person.id, secrets=readers.house.services.secrets, now=NOW)
        assert readers.get(f"/{path}/{token}{end}").status_code == 404
    for token in ("x", "A" * 40, "é", "A" * 5_000, "%00"):
        assert readers.get(f"/{path}/{token}{end}").status_code == 404
    stale = sign(
        own.get(path) or Purpose(path),
        person.id,
        secrets=readers.house.services.secrets,
        now=NOW - timedelta(days=400),
    )
    if path not in ("u", "saved"):
        assert readers.get(f"/{path}/{stale}{end}").status_code == 410


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    path=st.sampled_from(
        ["/", "/week", "/papers/{}", "/p/{}", "/topics/{}", "/topics/{}/feed.atom", "/search",
         "/search/feed.json", "/sitemap-{}.xml", "/subscribe", "/me", "/privacy",
         *(f"/{name}/{{}}" for name in TOKENS)]
    ),
    part=st.text(max_size=60),
    query=st.dictionaries(
        st.sampled_from(["q", "page", "by", "lang", "search", "done"]), st.text()
    ),
    form=st.dictionaries(
        st.sampled_from(["email", "what", "website", "source", "until", "zone", "hour"]), st.text()
    ),
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]),
    language=st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)  # fmt: skip
def test_nothing_that_is_sent_breaks_a_page(  # noqa: PLR0917
    readers: Readers,
    path: str,
    part: str,
    query: dict[str, str],
    form: dict[str, str],
    method: str,
    language: str,
) -> None:
    def clean(text: str) -> str:
        return text.encode("utf-8", "replace").decode()

    quoted = httpx.URL(readers.house.url).join(path.format(httpx.QueryParams({"": clean(part)})))
    answer = readers.client.request(
        method,
        quoted,
        params={name: clean(value) for name, value in query.items()},
        data={name: clean(value) for name, value in form.items()},
        headers={"Accept-Language": language.strip()},
    )
    assert answer.status_code < 500


def test_no_token_is_in_the_log(
    readers: Readers,
    digest: inbox.Mail,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("DEBUG")
    person, link = readers.join()
    urls = {link, *re.findall(rf"{readers.house.url}/(?:f|v|u|me)/[\w/-]+", digest.html)}
    secrets = readers.house.services.secrets
    for purpose, path in PATHS.items():
        urls.add(f"{readers.house.url}/{path}/{sign(purpose, person.id, secrets=secrets, now=NOW)}")
    for url in sorted(urls):
        readers.get(url)
        readers.get(f"{url}?q={url}")
        readers.client.get(readers.house.url, headers={"Referer": url})
        readers.post(url, what="nothing")
    # A fault of ours is told with its trace, and without the link.
    with monkeypatch.context() as broken:
        broken.setattr(Web, "page", lambda *_, **__: 1 / 0)
        assert readers.get(link).status_code == 500
    assert "ZeroDivisionError" in caplog.text
    said = "\n".join(
        f"{record.getMessage()} {record.__dict__}"
        for record in caplog.records
        if record.name.startswith(("digest", "uvicorn"))
    )
    assert "/me/<token>" in said
    for url in urls:
        token = url.removeprefix(readers.house.url).split("/")[2]
        assert token not in said


def test_who_runs_it_says_what_is_kept(readers: Readers) -> None:
    said = words(readers.get("/privacy"))
    assert "for 400 days, what each email looked like" in said
    assert "90 days" in said
    # By the settings, whatever they are.
    site = replace(
        SITE,
        privacy_contact="dpo@lab.example",
        imprint_url="https://lab.example/who",
        retention_days=33,
        digest_retention_days=1234,
    )
    folder = TEMPLATES / "web"
    made = load_templates(folder)
    template = made["en"].get_template("privacy.html")
    assets = load_assets(folder / "static")
    page = html.fromstring(
        template.render(site=site, language=language("en"), assets=assets, mails=None)
    )
    assert "for 1,234 days" in words(page)
    assert "33 days" in words(page)
    links = {str(link.get("href")) for link in page.cssselect("main a")}
    assert links == {"/me", "https://lab.example/who", "mailto:dpo@lab.example"}
    # A single day is none of "1 days".
    site = replace(site, retention_days=1, digest_retention_days=1)
    for tag, wrong in {"en": "1 days", "de": "1 Tage", "fr": "1 jours", "es": "1 días"}.items():
        one = (
            made[tag]
            .get_template("privacy.html")
            .render(site=site, language=language(tag), assets=assets, mails=None)
        )
        assert wrong not in one
    [kept] = html.fromstring(one).cssselect("dl")
    assert words(kept).count("un día") == 2  # and in Spanish, the last of them, both are right


def test_every_page_leads_to_the_lost_link_and_to_what_is_kept(readers: Readers) -> None:
    person, link = readers.join()
    way_out = readers.way_out(person)
    urls = ["/", "/week", "/topics", "/search?q=agents", "/subscribe", "/me", "/privacy"]
    for url in (*urls, way_out, "/u/x", "/confirm/x", "/nowhere"):
        page = html.fromstring(readers.get(url).text)
        assert page.cssselect("footer a[href='/me']"), url
        assert page.cssselect("footer a[href='/privacy']"), url
    # Who has the link has not lost it: whatever happens there, it is what the page leads to.
    path = link.removeprefix(readers.house.url)
    for answer in (
        readers.get(f"{link}?new=1"),
        readers.get(f"{link}?page=99"),
        readers.post(link, what="nothing"),
    ):
        foot = html.fromstring(answer.text).cssselect("footer")[0]
        assert [str(a.get("href")) for a in foot.cssselect("a[href*='me']")] == [path]
    # Another's link, which may stop where this one goes on, leads to none of a reader's own.
    assert "/me/" not in readers.get(way_out).text


def test_evidence_of_consent_is_kept(readers: Readers) -> None:
    person, _ = readers.join()
    table = schema.consent
    with reading(readers.house.services.engine) as connection:
        rows = connection.execute(
            select(table.c.what, table.c.source, table.c.text_version, table.c.locale)
            .where(table.c.subscriber_id == person.id)
            .order_by(table.c.id)
        ).all()
    assert [row.what for row in rows] == ["asked", "confirmed"]
    assert rows[1].source == "confirmation page"
    assert rows[1].text_version.startswith("confirm")


def test_pages_are_small(readers: Readers) -> None:
    _, link = readers.join()
    for url in ("/", "/month", "/subscribe", "/privacy", link):
        assert len(readers.get(url).content) < 100_000


def test_the_folder_of_templates_has_one_file_of_markup() -> None:
    """Only reviewed code may say that a text is HTML already; at present none does."""
    root = Path(__file__).resolve().parents[1]
    files = [
        *(root / "templates" / "web").rglob("*.html"),
        *(root / "digest" / "web").rglob("*.py"),
    ]
    said = [
        path.name
        for path in files
        if re.search(r"\|\s*safe\b|\bMarkup\b", path.read_text(encoding="utf-8"))
    ]
    assert said == []
