"""A reader meets one language from the first page to the mail: words, dates and numbers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import html

from digest.models import Frequency, Wishes
from digest.rendering import Renderer, compose
from digest.tokens import Purpose
from tests import mails
from tests.web_site import SITE, Running, add_paper, add_subscriber, serving, token, words

WISHES = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=12)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("pages")) as found:
        add_paper(
            found.engine,
            "A Paper of the Day",
            datetime(2026, 5, 28, 4, tzinfo=UTC),
            signals={"upvotes": 1234},
        )
        yield found


SPOKEN = {
    "German": ("/", "de-AT,en;q=0.5", "de", "Heute", "Donnerstag, 28. Mai 2026"),
    "French": ("/", "fr", "fr", "Aujourd’hui", "Jeudi 28 mai 2026"),
    "Spanish": ("/", "es-MX", "es", "Hoy", "Jueves, 28 de mayo de 2026"),
    "Japanese": ("/", "ja", "ja", "今日", "2026年5月28日木曜日"),
    "Chinese": ("/", "zh-CN,zh;q=0.9", "zh-Hans", "今天", "2026年5月28日星期四"),
    "an unknown one": ("/", "xx", "en", "Today", "Thursday, 28 May 2026"),
    "what the address asks for": ("/?lang=fr", "de", "fr", "Aujourd’hui", "Jeudi 28 mai 2026"),
    "an address that asks for nonsense": ("/?lang=xx", "de", "de", "Heute", "28. Mai 2026"),
}


@pytest.mark.parametrize("case", SPOKEN.values(), ids=SPOKEN)
def test_a_page_speaks_as_it_is_asked(web: Running, case: tuple[str, ...]) -> None:
    path, header, tag, word, day = case
    answer = web.client.get(path, headers={"Accept-Language": header})
    assert f'<html lang="{tag}" dir="ltr">' in answer.text
    assert word in words(answer)
    assert day in words(answer)
    assert "Accept-Language" in answer.headers["vary"]
    for title in html.fromstring(answer.text).cssselect("article h2"):
        assert (title.get("lang"), title.get("dir")) == ("", "auto")


def test_the_front_page_is_named_in_its_language(web: Running) -> None:
    page = html.fromstring(web.get("/?lang=de").text)
    for title in (
        page.cssselect("title")[0].text,
        page.cssselect("[property='og:title']")[0].get("content"),
    ):
        assert title == "Paper Digest · Die Paper des Morgens, für Sie geordnet"


def test_ones_own_pages_speak_as_one_chose(web: Running) -> None:
    person = add_subscriber(web.engine, "ada@example.org", replace(WISHES, locale="ja"))
    for query in ("", "?lang=fr"):
        page = web.client.get(
            f"/me/{token(Purpose.PREFERENCES, person)}{query}", headers={"Accept-Language": "de"}
        )
        assert '<html lang="ja"' in page.text
        assert "配信設定" in words(page)
        assert "月曜日" in words(page)
    chosen = html.fromstring(page.text).cssselect("#locale option")
    assert {option.text for option in chosen} == {
        *("English", "Deutsch", "Español", "Français", "日本語", "简体中文"),
    }
    [selected] = [option for option in chosen if option.get("selected") is not None]
    assert selected.get("value") == "ja"


@pytest.mark.parametrize(
    ("tag", "named"), [("de", "Ada Li, Bo Lee"), ("ja", "Ada Li、Bo Lee"), ("zh", "Ada Li、Bo Lee")]
)
def test_names_are_joined_as_the_language_does(web: Running, tag: str, named: str) -> None:
    listed_at = datetime(2026, 4, 1, tzinfo=UTC)
    found = {"authors": ["Ada Li", "Bo Lee"], "categories": ["cs.AI", "cs.LG"]}
    paper_id = add_paper(web.engine, "Of two", listed_at, **found)
    for path in (f"/p/{paper_id}", "/papers/2026-04-01"):
        assert named in words(web.get(f"{path}?lang={tag}"))
    assert named.replace("Ada Li", "cs.AI").replace("Bo Lee", "cs.LG") in words(
        web.get(f"/p/{paper_id}?lang={tag}")
    )


def test_domains_are_joined_as_the_language_does(tmp_path: Path) -> None:
    site = replace(SITE, signup="domains", signup_domains=("a.example", "b.example"))
    with serving(tmp_path, site=site) as house:
        assert "a.example和b.example" in words(house.get("/subscribe?lang=zh"))
        assert "a.example and b.example" in words(house.get("/subscribe"))
        assert "a.example、b.example" in words(house.get("/subscribe?lang=ja"))


def test_each_language_is_offered_in_itself(web: Running) -> None:
    person = add_subscriber(web.engine, "bo@example.org", WISHES)
    page = html.fromstring(web.get(f"/me/{token(Purpose.PREFERENCES, person)}").text)
    offered = {
        str(option.get("value")): (option.get("lang"), words(option))
        for option in page.cssselect("select[name=locale] option")
    }
    assert offered["de"] == ("de", "Deutsch")
    assert offered["zh_Hans"][0] == "zh-Hans"
    assert not page.cssselect("select[name=hour] option[lang]")


def test_what_is_wrong_is_said_in_the_language_of_the_page(web: Running) -> None:
    for tag, said in (("de", "An diese Adresse"), ("en", "@-sign"), ("zh-Hans", "无法向这个地址")):
        answer = web.client.post(
            "/subscribe", data={"email": "ada"}, headers={"Accept-Language": tag}
        )
        assert answer.status_code == 422
        assert said in words(answer)


def test_a_mistake_stands_beside_what_was_written_as_the_language_does(web: Running) -> None:
    for tag, said in (("ja", "このような論文：zz：論文を"), ("fr", "comme ceux-ci : zz : Cela")):
        person = add_subscriber(web.engine, f"{tag}@example.org", replace(WISHES, locale=tag))
        answer = web.client.post(
            f"/me/{token(Purpose.PREFERENCES, person)}", data={"what": "save", "seeds": "zz"}
        )
        assert answer.status_code == 422
        assert said in words(answer)


def mail(locale: str, folder: Path = mails.TEMPLATES) -> tuple[str, str]:
    renderer = Renderer(folder, mails.SITE)
    chosen = mails.entries(4, 2)
    reader = replace(mails.subscriber(), locale=locale)
    cards = renderer.cards(chosen, locale=locale)
    return compose(
        renderer.skeleton(locale=locale),
        [(part, entry.card) for part, entry in zip(cards, chosen, strict=True)],
        mails.personal(
            renderer, chosen, subscriber=reader, candidates=1234, topics=("agents", "robots")
        ),
    )


def test_a_german_digest() -> None:
    made, text = mail("de")
    assert '<html lang="de" dir="ltr">' in made
    plain = text.replace("\u00a0", " ")
    said = " ".join(plain.split())
    for sentence in (
        "Donnerstag, 28. Mai 2026 · zu Ihren Themen agents und robots",
        "Sechs Paper für Sie, ausgewählt aus 1.234 neuen.",
        "99 Stimmen · Ada Lovelace, Kurt Gödel, Emmy Noether und 2 weitere",
        "Thema: agents · 12 neue Stimmen",
        "Hugging Face (2 Kommentare):",
        "Code (1.234 Sterne):",
        "Außerdem heute",
        "Paper Digest · Die Paper des Morgens, für Sie geordnet",
        "Mehr davon oder weniger:",
        "Diese Mail kommt werktags um 8:00 Uhr, Ortszeit Berlin, weil Sie den Digest am 3. März",
        "Abbestellen:",
    ):
        assert sentence in said
    for label in ("Mehr davon", "Weniger davon", "Merken", "Thema stummschalten"):
        assert label in made.replace("\u00a0", " ").replace("&nbsp;", " ")
    for title in html.fromstring(made).cssselect("h2.title"):
        assert title.get("lang") == ""


@pytest.mark.parametrize("locale", ["ja", "zh_Hans"])
def test_lines_of_signs_fit_the_width(locale: str) -> None:
    made, text = mail(locale)
    for line in text.splitlines():
        columns = sum(1 + (unicodedata.east_asian_width(sign) in "WF") for sign in line)
        assert columns <= 72 or "https://" in line, line
        assert not line.strip().startswith(("。", "、", "，", "）"))
    assert any(unicodedata.east_asian_width(line[-1]) == "W" for line in text.splitlines() if line)
    why = html.fromstring(made).cssselect("td.foot p.small")[0]
    assert "\n" not in str(why.text).strip()
