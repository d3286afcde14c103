"""Cards, skeletons and the mail composed of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digest.errors import TemplateError
from digest.locales import language
from digest.models import Mark, Part, Reason
from digest.rendering import BUDGET, Entry, Renderer, assemble, compose, fit
from digest.rendering.card import LONGEST_SUMMARY, organisation, summary, view
from digest.rendering.parts import HERE, NOTE
from tests import mails
from tests.desk import DAILY, Desk, FragileRenderer

ACTIONS = ("more", "less", "save", "mute")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(mails.TEMPLATES, mails.SITE)


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the templates that a test may spoil."""
    return Path(shutil.copytree(mails.TEMPLATES, tmp_path / "templates"))


# ------------------------------------------------------------------ what a card shows


def test_a_card_shows_the_paper(renderer: Renderer) -> None:
    [part] = renderer.cards([mails.entry()], locale="en")
    card = mails.document(f"<table>{part.html.decode().replace(HERE, 'here')}</table>")
    assert [link.get("href") for link in card.iter("a")] == [
        "https://papers.example.org/1",
        "https://papers.example.org/1",
        "https://papers.example.org/1.pdf",
        "https://papers.example.org/1.html",
        "https://hub.example.org/1",
        "https://code.example.org/1",
        "https://project.example.org/1",
        *(f"https://digest.example.org/f/here/{action}" for action in ACTIONS),
    ]
    shown = " ".join(card.text_content().split())
    for words in (
        "99votes",  # a line break stands between
        "Invented Work 1: Agents that Read Slowly",
        "Ada Lovelace, Kurt Gödel, Emmy Noether and 2 more · Example University",
        "Example University · Example Conference 2026",
        "A study of agents that read slowly and remember more.",
        "Topic: agents · 12 new votes",
        "Hugging Face 2 comments",
        "Code 1,234 stars",
    ):
        assert words in shown
    assert [strong.text for strong in card.iter("strong")] == ["Agents", "agents"]


def test_a_card_in_text_is_written_for_reading(renderer: Renderer) -> None:
    [part] = renderer.cards([mails.entry()], locale="en")
    assert part.text.decode().split("\n") == [
        "Invented Work 1: Agents that Read Slowly",
        "99\u00a0votes\u00a0· Ada Lovelace, Kurt Gödel, Emmy Noether and 2\u00a0more\u00a0·",
        "Example University\u00a0· Example Conference\u00a02026",
        "",
        "A study of agents that read slowly and remember more.",
        "",
        "Topic: agents\u00a0· 12 new votes",
        "https://papers.example.org/1",
        "PDF: https://papers.example.org/1.pdf",
        "HTML: https://papers.example.org/1.html",
        "Hugging Face (2 comments): https://hub.example.org/1",
        "Code (1,234 stars): https://code.example.org/1",
        "Project: https://project.example.org/1",
        f"More like this, or less: https://digest.example.org/f/{HERE}",
    ]


def test_a_bare_paper_has_a_bare_card(renderer: Renderer) -> None:
    bare = Entry(paper=mails.paper(authors=(), organisation="", venue="", abstract="", summary=""))
    bare = replace(bare, paper=replace(bare.paper, arxiv_id=None, links={}, signals={}))
    [part] = renderer.cards([bare], locale="en")
    html, text = part.html.decode(), part.text.decode()
    assert html.count("<p") == html.count('<p class="acts"') == 1
    assert "/mute" not in html  # there is no topic
    assert "vote" not in html
    assert text.split("\n")[:-1] == [bare.paper.title, bare.paper.url]


def test_without_a_summary_the_claim_stands_and_its_marks_move_along(renderer: Renderer) -> None:
    [part] = renderer.cards([mails.entry(summary="")], locale="en")
    text = part.html.decode()
    assert "We propose <strong" in text
    assert ">agents</strong> that read slowly. They win.</p>" in text
    assert "Reading is slow" not in text


def test_marks_outside_what_is_shown_mark_nothing(renderer: Renderer) -> None:
    shown = mails.entry(title="Plain", summary="", abstract="Agents tire. We propose rest.")
    [part] = renderer.cards([shown], locale="en")
    assert b"<strong" not in part.html


def test_a_line_has_title_and_votes_alone(renderer: Renderer) -> None:
    [part] = renderer.cards([mails.entry(7, card=False)], locale="en")
    line = mails.document(f"<table>{part.html.decode()}</table>")
    words = " ".join(line.text_content().split())
    assert words == "93votes Invented Work 7: Agents that Read Slowly"
    assert part.text.decode().split("\n") == [
        "Invented Work 7: Agents that Read Slowly",
        "93 votes",
        "https://papers.example.org/7",
        f"More like this, or less: https://digest.example.org/f/{HERE}",
    ]


HOSTILE = (
    "\x00</a><script>alert(1)</script>\u202e\r\n@@unsubscribe_url@@<!--@@cards@@--> &amp; \ud800"
)


def test_hostile_text_is_inert(renderer: Renderer) -> None:
    chosen = [
        mails.entry(
            1,
            title=HOSTILE,
            summary=HOSTILE,
            authors=(HOSTILE,),
            organisation=HOSTILE,
            url="javascript:alert(1)",
            links={"pdf": "data:text/html,x", "code": 'https://example.org/"><script>'},
        ),
        replace(mails.entry(2), reasons=(Reason(kind="topic", args=(HOSTILE,)),)),
        mails.entry(3, title=HOSTILE, card=False),
    ]
    html, text = mails.mail(renderer, chosen, topics=[HOSTILE])
    root = mails.document(html)
    assert not list(root.iter("script"))
    assert {link.get("href").partition(":")[0] for link in root.iter("a")} == {"https"}
    assert html.count(mails.UNSUBSCRIBE) == 1
    assert not set("\x00\u202e\ud800") & set(html + text)
    assert "@@unsubscribe_url@@" in root.text_content()  # the paper's words stay words


def test_an_endless_paper_leaves_room_for_others(renderer: Renderer) -> None:
    endless = mails.entry(
        title="Word " * 5000,
        summary="word " * 50000,
        authors=("Name" * 5000,) * 500,
        organisation="Name " * 5000,
        url="https://example.org/" + "x" * 5000,
    )
    [part] = renderer.cards([endless], locale="en")
    assert len(part.html) < 9_000


ABSTRACT = "Reading is slow. We propose agents that read slowly. They win. " * 10


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        pytest.param({"abstract": ABSTRACT}, ABSTRACT.strip(), id="whole"),
        pytest.param({"abstract": "", "summary": "One sentence."}, "One sentence.", id="none"),
        pytest.param({"abstract": "word " * 2000}, None, id="an endless one is cut"),
    ],
)
def test_a_full_card_has_the_whole_abstract(
    renderer: Renderer, changes: dict[str, Any], shown: str | None
) -> None:
    entry = replace(mails.entry(**changes), full=True)
    [part] = renderer.cards([entry], locale="en")
    [words] = mails.document(part.html.decode()).xpath("//p[@class='sum']")
    if shown is None:
        assert 3_900 < len(words.text_content()) <= 4_000
    else:
        assert words.text_content() == shown
    marked = [strong.text for strong in words.iter("strong")]
    assert marked == ["agents"] * (shown or "").count("agents")


def test_the_readers_own_reasons_have_a_place_that_no_paper_can_take(renderer: Renderer) -> None:
    chosen = [
        replace(mails.entry(1, title=f"{HERE}{NOTE} @@notes@@ @@feedback@@"), noted=True),
        mails.entry(2),
        replace(mails.entry(3), reasons=(), noted=True),
        mails.entry(4, card=False),
    ]
    names = ("Ada & Co", "the <Noether> group")
    notes = renderer.notes(
        [[Reason("author", names)], [], [Reason("like", ("A title", "more"))], []], locale="en"
    )
    said = "Because you follow Ada & Co and the <Noether> group"
    assert notes == [said, "", "Like ‘A title’, which you asked for more of", ""]
    html, text = mails.mail(renderer, chosen, notes=notes)
    reasons = [list(why.itertext()) for why in mails.document(html).xpath("//p[@class='why']")]
    assert reasons == [
        [said, "Topic: agents\u00a0· 12 new votes"],
        ["Topic: agents\u00a0· 12 new votes"],
        [notes[2]],
    ]
    assert f"    {said}\n    Topic: agents" in text
    assert html.count(said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")) == 1
    for number in (1, 2, 3):
        for action in ("more", "less", "save"):
            assert html.count(f'/f/{mails.FEEDBACK}/{number}/{action}"') == 1
    assert html.count(mails.FEEDBACK) == 3 * 3 + 2  # two of them have a topic to mute
    assert [line.rpartition("/f/")[2] for line in text.split("\n") if "/f/" in line] == [
        f"{mails.FEEDBACK}/{number}" for number in (1, 2, 3, 4)
    ]
    assert not set(HERE + NOTE) & set(html + text)


def test_feedback_links_are_short(renderer: Renderer) -> None:
    html, _ = mails.mail(renderer, mails.entries(100, 0))
    links = mails.document(html).xpath("//p[@class='acts']/a/@href")
    assert len(links) == 400
    assert max(len(link.removeprefix(mails.SITE.base_url)) for link in links) <= 90


def test_a_token_that_is_no_part_of_a_path_is_refused(renderer: Renderer) -> None:
    for token in ("", "a/b", "a b", 'a"'):
        with pytest.raises(ValueError, match="token"):
            mails.personal(renderer, mails.entries(), feedback=token)


# ------------------------------------------------------------------ addresses of parts


def test_equal_content_has_one_address_and_is_rendered_once(renderer: Renderer) -> None:
    one, same = renderer.cards([mails.entry(), mails.entry()], locale="en")
    assert one is same
    assert one.hash == address(renderer, mails.entry())
    assert len(one.hash) == 64


def address(renderer: Renderer, entry: Entry) -> str:
    [part] = renderer.cards([entry], locale="en")
    return part.hash


class Counting(FragileRenderer):
    """A renderer that counts how often styles are laid in."""

    inlined = 0

    def _inlined(self, document: str) -> Any:
        self.inlined += 1
        return super()._inlined(document)


@pytest.mark.parametrize("locale", ["en", "de_AT"])
def test_styles_are_laid_in_once_for_a_template_version(templates: Path, locale: str) -> None:
    renderer, chosen = Counting(templates, mails.SITE), mails.entries(3, 2)
    skeleton = renderer.skeleton(locale=locale)
    assert renderer.inlined == 1
    for _ in range(3):
        assert renderer.skeleton(locale=locale) is skeleton
    assert renderer.inlined == 1
    cards = renderer.cards(chosen, locale=locale)  # all in one go
    assert renderer.inlined == 2
    for _ in range(3):
        again = renderer.cards(mails.entries(3, 2), locale=locale)
        assert all(one is other for one, other in zip(cards, again, strict=True))
        personal = mails.frozen(renderer, chosen)
        assemble(personal, skeleton, [(card, True) for card in cards])
    assert renderer.inlined == 2
    renderer.cards([*chosen, mails.entry(6)], locale=locale)  # the new one alone
    assert renderer.inlined == 3

    with (templates / "email/style.css").open("a") as style:
        style.write(".title { color: #222222; }\n")
    changed = Counting(templates, mails.SITE)
    changed.skeleton(locale=locale)
    changed.cards(chosen, locale=locale)
    assert changed.inlined == 2


def test_a_second_pass_over_the_same_papers_renders_nothing(at_eight: Desk) -> None:
    at_eight.renderer = counting = Counting(mails.TEMPLATES, mails.SITE)
    for number in range(4):
        at_eight.paper(f"Paper {number}", votes=20 - number)
    at_eight.subscribe("grace", wishes=replace(DAILY, hour=9))
    assert at_eight.run().digests == 1
    made = counting.inlined
    assert made == 2  # the skeleton, the cards
    at_eight.at("2026-05-27T09:00")
    assert at_eight.run().digests == 1
    assert counting.inlined == made
    first, second = at_eight.all_digests()
    assert first["parts"] == second["parts"]


def test_what_was_not_asked_for_the_longest_is_rendered_again() -> None:
    renderer = Counting(mails.TEMPLATES, mails.SITE, most=2)
    for number, expected in ((1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)):
        renderer.cards([mails.entry(number)], locale="en")
        assert renderer.inlined == expected
    many = renderer.cards(mails.entries(5, 0), locale="en")  # more at once than are kept
    assert len({part.hash for part in many}) == 5


def test_what_is_not_shown_does_not_change_the_address(renderer: Renderer) -> None:
    before = address(renderer, mails.entry())
    assert (
        before
        == renderer.cards([mails.entry(keywords=("unseen",), abstract="Rest.")], locale="en")[
            0
        ].hash
    )


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(mails.entry(title="Another"), id="title"),
        pytest.param(mails.entry(signals={"upvotes": 73}), id="votes"),
        pytest.param(mails.entry(card=False), id="short"),
        pytest.param(replace(mails.entry(), marks=()), id="marks"),
        pytest.param(replace(mails.entry(), reasons=()), id="reasons"),
    ],
)
def test_what_is_shown_changes_the_address(renderer: Renderer, changed: Entry) -> None:
    assert address(renderer, changed) != address(renderer, mails.entry())


def test_a_changed_template_changes_the_addresses(renderer: Renderer, templates: Path) -> None:
    with (templates / "email/style.css").open("a") as style:
        style.write(".title { color: #222222; }\n")
    other = Renderer(templates, mails.SITE)
    assert address(other, mails.entry()) != address(renderer, mails.entry())
    assert other.skeleton(locale="en").hash != renderer.skeleton(locale="en").hash


def test_a_changed_site_changes_the_skeleton_alone(renderer: Renderer) -> None:
    other = Renderer(mails.TEMPLATES, replace(mails.SITE, name="Other Lab"))
    assert other.skeleton(locale="en").hash != renderer.skeleton(locale="en").hash
    assert address(other, mails.entry()) == address(renderer, mails.entry())


# ------------------------------------------------------------------ the mail, frozen


def test_frozen_parts_make_the_same_mail_whatever_changes(templates: Path) -> None:
    chosen = mails.entries()
    before = Renderer(templates, mails.SITE)
    skeleton, cards = before.skeleton(locale="en"), mails.parts(before, chosen)
    personal = mails.personal(before, chosen)
    first = compose(skeleton, cards, personal)

    for path in templates.rglob("*.*"):
        path.write_text("spoiled")
    stored = [(replace(part), card) for part, card in cards]
    assert compose(replace(skeleton), stored, json.loads(json.dumps(personal))) == first


def test_new_votes_and_a_new_name_are_for_new_mails_only(renderer: Renderer) -> None:
    frozen = mails.mail(renderer, mails.entries())
    other = Renderer(mails.TEMPLATES, replace(mails.SITE, name="Other Lab"))
    later = [replace(item, paper=replace(item.paper, signals={})) for item in mails.entries()]
    assert mails.mail(other, later) != frozen
    assert mails.mail(renderer, mails.entries()) == frozen


def test_the_order_is_kept_and_papers_are_numbered(renderer: Renderer) -> None:
    html, text = mails.mail(renderer, mails.entries(cards=9, lines=3))
    numbers = [line.split()[0] for line in text.split("\n") if "Invented Work" in line]
    assert numbers == [f"{number}." for number in range(1, 13)]
    places = [html.index(f"https://papers.example.org/{number}.pdf") for number in range(1, 10)]
    assert places == sorted(places)
    assert html.index("Also today") > places[-1]
    assert "10. Invented Work 10" in text


def test_without_lines_there_is_no_also_today(renderer: Renderer) -> None:
    for body in mails.mail(renderer, mails.entries(cards=2, lines=0)):
        assert "Also today" not in body
        assert "@@" not in body


@pytest.mark.parametrize("joinable", [True, False])
def test_who_got_it_from_somebody_is_invited_where_they_can_join(joinable: bool) -> None:
    renderer = Renderer(mails.TEMPLATES, replace(mails.SITE, joinable=joinable))
    html, text = mails.mail(renderer, mails.entries())
    assert ("Forwarded to you?" in html, "Forwarded to you?" in text) == (joinable, joinable)
    assert f"{mails.UNSUBSCRIBE}\n\n\n" not in text


def test_the_way_out_stands_in_both_bodies(renderer: Renderer) -> None:
    for body in mails.mail(renderer, mails.entries()):
        assert mails.UNSUBSCRIBE in body
        assert mails.PREFERENCES in body
        assert mails.SITE.postal_address in body
        assert mails.SITE.imprint_url in body


def test_sample_papers_are_labelled(renderer: Renderer) -> None:
    sample = Renderer(mails.TEMPLATES, replace(mails.SITE, sample=True))
    for plain, labelled in zip(
        mails.mail(renderer, mails.entries()), mails.mail(sample, mails.entries()), strict=True
    ):
        assert "Papers that link to example.org are made up, to try things out." in labelled
        assert "invented, for trying out" not in plain


def test_a_place_without_words_is_refused(renderer: Renderer) -> None:
    words = mails.personal(renderer, mails.entries())
    del words["lead"]
    with pytest.raises(TemplateError, match="@@lead@@"):
        compose(renderer.skeleton(locale="en"), [], words)


# ------------------------------------------------------------------ the budget


def _part(size: int) -> Part:
    return Part(hash="", kind="card", html=b"x" * size, text=b"")


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        pytest.param([], 0, id="nothing"),
        pytest.param([3000] * 8, 8, id="a usual day"),
        pytest.param([10_000] * 20, 8, id="too much"),
        pytest.param([50_000, 32_600], 2, id="to the last byte"),
        pytest.param([50_000, 32_601], 1, id="one byte too many"),
        pytest.param([90_000, 10], 0, id="the first alone is too much"),
    ],
)
def test_papers_fit_from_the_first(sizes: list[int], kept: int) -> None:
    cards = [(_part(size), True) for size in sizes]
    assert fit(_part(1000), cards) == kept


def test_the_fullest_mail_stays_within_the_budget(renderer: Renderer) -> None:
    chosen = [
        mails.entry(number, card=number <= 8, title="&<>" * 90, summary="'\"" * 300)
        for number in range(1, 101)
    ]
    cards = mails.parts(renderer, chosen)
    skeleton = renderer.skeleton(locale="en")
    room = fit(skeleton, cards)
    assert 8 < room < 100
    words = mails.personal(renderer, chosen[:room], topics=["&" * 200] * 30)
    html, _ = compose(skeleton, cards[:room], words)
    assert BUDGET * 0.8 < len(html.encode()) <= BUDGET
    assert mails.UNSUBSCRIBE in html


def test_a_recorded_day(renderer: Renderer, shared_data: Path) -> None:
    chosen = mails.recorded(shared_data, 15, 7)
    html, text = mails.mail(renderer, chosen)
    assert len(html.encode()) < 40_000
    assert all(len(line) <= 72 for line in text.split("\n") if "://" not in line)
    titles = [" ".join(h.text_content().split()) for h in mails.document(html).iter("h2")]
    assert titles == [*(item.paper.title for item in chosen[:7]), "Also today"]


# ------------------------------------------------------------------ broken templates


@pytest.mark.parametrize("name", ["digest/body.html", "digest/card.txt", "style.css", "base.html"])
def test_a_missing_template_is_named(templates: Path, name: str) -> None:
    (templates / "email" / name).unlink()
    with pytest.raises(TemplateError, match=f"{name} is missing"):
        Renderer(templates, mails.SITE)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="nowhere"):
        Renderer(tmp_path / "nowhere", mails.SITE)


def test_a_syntax_error_is_placed(templates: Path) -> None:
    (templates / "email/digest/card.html").write_text("<tr>\n{% if %}")
    with pytest.raises(TemplateError, match=r"card\.html, line 2"):
        Renderer(templates, mails.SITE)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        pytest.param(
            "<tr><td>{{ card.nothing }}</td></tr>", "card.html does not render", id="name"
        ),
        pytest.param("<tr></tr><tr></tr>", "one table row", id="two rows"),
    ],
)
def test_a_card_that_cannot_be_made_is_refused(templates: Path, card: str, message: str) -> None:
    (templates / "email/digest/card.html").write_text(card)
    with pytest.raises(TemplateError, match=message):
        Renderer(templates, mails.SITE).cards([mails.entry()], locale="en")


def test_marks_may_overlap_and_lie_outside(renderer: Renderer) -> None:
    marks = (
        Mark(field="title", start=-5, end=3),
        Mark(field="title", start=1, end=8),
        Mark(field="title", start=30, end=9999),
        Mark(field="title", start=6, end=2),
    )
    [part] = renderer.cards([replace(mails.entry(), marks=marks)], locale="en")
    card = mails.document(f"<table>{part.html.decode()}</table>")
    assert [strong.text for strong in card.iter("strong")] == ["Invented", "ead\u00a0Slowly"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("alibaba-inc", "Alibaba Inc"),
        ("math-ai", "Math AI"),
        (
            "university of science and technology  of china",
            "University of Science and Technology of China",
        ),
        ("mlpc-ucsd", "MLPC UCSD"),
        ("NVIDIA", "NVIDIA"),
        ("inclusionAI", "inclusionAI"),
        ("upstage", "upstage"),
        ("MeiGen-AI", "MeiGen-AI"),
        ("Shanghai Jiaotong University 1(NOT OFFICIAL)", ""),
        ("", ""),
    ],
)
def test_an_organisation_is_named_as_people_write_it(name: str, shown: str) -> None:
    assert organisation(name) == shown


@pytest.mark.parametrize(
    ("categories", "upvotes", "tag"),
    [
        (("cs.AI", "cs.LG"), 0, "cs.AI"),
        (("cs.AI",), 12, ""),  # the votes stand there
        (("quant-ph",), 0, "quant-ph"),
        (("physics.optics",), 0, "physics"),
        (("a blog's endless category",), 0, ""),
        ((), 0, ""),
    ],
)
def test_without_votes_the_category_stands_in_their_place(
    categories: tuple[str, ...], upvotes: int, tag: str
) -> None:
    about = mails.paper(categories=categories, signals={"upvotes": upvotes})
    assert view(Entry(paper=about), language=language("en"))["tag"] == tag


def test_a_claim_that_only_points_on_brings_what_it_points_at() -> None:
    abstract = "Reading is slow. This paper closes that gap. We give agents glasses. They win."
    shown = summary(mails.entry(summary="", abstract=abstract))
    assert "".join(text for text, _ in shown) == (
        "This paper closes that gap. We give agents glasses. They win."
    )
    assert [text for text, marked in shown if marked] == ["agents"]


def test_a_long_text_is_shortened_with_its_marks() -> None:
    abstract = "We show that agents read slowly and " + "carefully " * 100 + "agents again."
    shown = summary(mails.entry(summary="", abstract=abstract))
    whole = "".join(text for text, _ in shown)
    assert len(whole) <= LONGEST_SUMMARY
    assert whole.endswith(" carefully…")
    assert [text for text, marked in shown if marked] == ["agents"]


def test_no_link_stands_twice() -> None:
    links = {"huggingface": "https://hub.example.org/1", "project": "https://hub.example.org/1"}
    found = view(mails.entry(links=links), language=language("en"))["links"]
    assert [link["label"] for link in found] == ["arXiv", "Hugging Face", "Code"]


def test_a_title_ends_in_no_lonely_word(renderer: Renderer) -> None:
    entry = mails.entry(title="Skills for General Visual Agents")
    [part] = renderer.cards([entry], locale="en")
    title = mails.document(f"<table>{part.html.decode()}</table>").find(".//h2")
    assert title.text_content().strip() == "Skills for General Visual\u00a0Agents"
    assert title.findtext(".//strong") == "Agents"


FOUND_IN = {
    "a long sentence": f"Same. We show that {'so ' * 150}the quagga and {'more ' * 90}end. Other.",
    "the claim, behind its end": f"We show that {'so ' * 150}a quagga is here.",
    "no words": "語" * 500 + "quagga",
}


@pytest.mark.parametrize("abstract", FOUND_IN.values(), ids=FOUND_IN)
@pytest.mark.parametrize("short", ["", "Said in short."])
def test_what_was_found_is_seen_in_the_longest_sentence(abstract: str, short: str) -> None:
    paper = mails.paper(summary=short, abstract=abstract)
    at = abstract.index("quagga")
    marks = (Mark(field="abstract", start=at, end=at + len("quagga")),)
    begins, *shown = summary(Entry(paper=paper, marks=marks, found=True))
    assert begins == ("… ", False)
    assert ("quagga", True) in shown
    assert len("".join(text for text, _ in shown)) <= LONGEST_SUMMARY
