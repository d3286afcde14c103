"""The fast way to a mail's bytes: the same mail as the plain way makes, and the same for ever."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from fast_mail_parser import parse_email
from hypothesis import given, settings
from hypothesis import strategies as st

from digest.errors import NotFound, TemplateError
from digest.message import freeze, head, one_line
from digest.models import Message, Part, Reason
from digest.rendering import Assembler, Entry, Renderer, assemble, compose
from tests import mails
from tests.mails import SITE, parsed

ANY = st.text(st.characters(codec="utf-8"), max_size=120)
AWKWARD = st.sampled_from(
    [
        'quotes " and \\ and (comments), <brackets>; commas: all',
        "🎉👨‍👩‍👧‍👦 emoji 🧪 in a title that goes on and on 🧬 until it folds 🔬",
        "大規模言語モデルの長い題名は折り返しが必要であり、文字の途中で切れてはならない",
        "تعلم الآلة العميق في معالجة اللغات الطبيعية",
        "two\r\nlines\n\n\n\n\nand more",
        ".\n.. \nFrom me=3D\t",
        "=?utf-8?q?Bcc=3A_evil?=",
        "@@lead@@<!--@@cards@@-->",
        "x" * 78,
        "&<>'\"" * 20,
        "",
    ]
)
WORDS = ANY | AWKWARD
LINKS = st.text("abcXYZ019._~-/?&=%#+;:@!$()*", max_size=120).map("https://example.org/".__add__)


def plainly(personal: dict[str, str], html: str, text: str) -> EmailMessage:
    """The same mail as an object of the standard library.

    It is not made into bytes: that folds a link so that no program finds it, and drops quotes.
    """
    plain = EmailMessage()
    plain["From"] = Address(SITE.name, addr_spec=SITE.sender_address)
    plain["To"] = Address(personal["name"], addr_spec=personal["address"])
    # Given as it is, it would be decoded where it looks like an encoded word.
    plain["Subject"] = Header(one_line(personal["subject"]), "utf-8").encode(maxlinelen=0)
    plain["Date"] = personal["date"]
    plain["Message-ID"] = personal["message_id"]
    plain["List-Id"] = f'"{SITE.name}" <{SITE.list_id}>'
    plain["List-Unsubscribe"] = f"<{personal['unsubscribe_url']}>"
    plain["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    plain["List-Help"] = f"<{SITE.base_url}>"
    plain["List-Post"] = "NO"
    plain["Auto-Submitted"] = "auto-generated"
    plain.set_content(text)
    plain.add_alternative(html, subtype="html")
    plain.set_boundary(personal["boundary"])
    return plain


def headers(message: EmailMessage) -> dict[str, str]:
    """All headers; without blanks, for the standard library adds some between encoded words."""
    assert len(message.keys()) == len(set(message.keys()))
    return {name: "".join(str(value).split()) for name, value in message.items()}


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return bytes(part.get_payload(decode=True)).decode()


def assert_equal_mail(message: Message, personal: dict[str, str], bodies: tuple[str, str]) -> None:
    """The message is the plain one, for two parsers that have nothing in common."""
    found, (html, text) = parsed(message), bodies
    assert headers(found) == headers(plainly(personal, html, text))
    assert [part.get_content_type() for part in found.iter_parts()] == ["text/plain", "text/html"]
    second = parse_email(message.content, strict=True)
    assert second.subject == one_line(personal["subject"])
    assert second.from_ is not None
    assert second.from_.display_name == SITE.name
    [to] = second.to
    assert (to.display_name or "", to.address) == (personal["name"], personal["address"])
    assert second.headers["List-Unsubscribe"] == [f"<{personal['unsubscribe_url']}>"]
    for plain, marked in (
        (body(found, "plain"), body(found, "html")),
        (*second.text_plain, *second.text_html),
    ):
        assert plain.replace("\r\n", "\n") == text
        assert marked.replace("\r\n", "\n") == html


def assert_ready(message: Message) -> None:
    """Nothing is left to do for the wire: 7-bit, CRLF, short lines, no dot to be doubled."""
    assert message.content.isascii()
    assert message.content.endswith(b"\r\n")
    for line in message.content.split(b"\r\n"):
        assert not set(b"\r\n") & set(line)
        assert not line.startswith(b".")
        assert len(line) <= 78 or line.startswith(b"List-Unsubscribe: <")
        assert len(line) <= 998


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(mails.TEMPLATES, SITE)


# ------------------------------------------------------------------ the same mail


PAPERS = st.lists(
    st.builds(
        lambda title, summary, author, url, topic, card: replace(
            mails.entry(
                title=title, summary=summary, authors=(author,), url=url, links={"pdf": url}
            ),
            reasons=(Reason(kind="topic", args=(topic,)),),
            card=card,
        ),
        *(WORDS, WORDS, WORDS, LINKS, WORDS, st.booleans()),
    ),
    min_size=1,
    max_size=4,
).map(lambda chosen: sorted(chosen, key=lambda entry: not entry.card))


@settings(max_examples=50, deadline=None)  # a new card goes through premailer
@given(
    chosen=PAPERS,
    name=WORDS,
    topics=st.lists(WORDS, max_size=6),
    links=st.tuples(LINKS, LINKS),
)
def test_a_mail_is_what_the_plain_way_makes(
    renderer: Renderer,
    chosen: list[Entry],
    name: str,
    topics: list[str],
    links: tuple[str, str],
) -> None:
    personal = mails.frozen(
        renderer,
        chosen,
        subscriber=mails.subscriber(name=name),
        topics=topics,
        unsubscribe_url=links[0],
        preferences_url=links[1],
    )
    skeleton, cards = renderer.skeleton(locale="en"), mails.parts(renderer, chosen)
    message = assemble(personal, skeleton, cards)
    assert_equal_mail(message, personal, compose(skeleton, cards, personal))
    assert_ready(message)
    assert (message.sender, message.recipient) == (SITE.sender_address, personal["address"])


# Whatever templates may come to, and what none of ours makes.
SPOKEN = st.sampled_from(["lead", "note", "why"])
TEMPLATE = st.lists(
    st.sampled_from(["\n", "\n\n", " ", ".", "From ", "=", "é", "x" * 80, "@@lead@@", "@@why@@"])
    | st.sampled_from(["@@?note@@", "@@?cards@@"]).flatmap(
        lambda opening: SPOKEN.map(
            lambda name: f"{opening}\n\n@@{name}@@\n\n{opening.replace('?', '/')}"
        )
    )
    | ANY.filter(lambda text: "@" not in text and "\r" not in text),
    max_size=12,
).map("".join)
BODY = TEMPLATE.map(lambda text: text.replace("@", "a").strip() or "x")
CARDS = st.lists(st.tuples(BODY, BODY, st.booleans()), max_size=3)


@settings(deadline=None)
@given(
    html=TEMPLATE,
    text=TEMPLATE,
    parts=CARDS,
    said=st.fixed_dictionaries(
        {
            "lead": WORDS.map(one_line),
            "note": WORDS.map(one_line),
            "why": st.lists(WORDS.map(one_line).filter(bool), max_size=3).map("\n".join),
        }
    ),
)
def test_any_template_and_part(
    html: str, text: str, parts: list[tuple[str, str, bool]], said: dict[str, str]
) -> None:
    personal = freeze(
        name="Ada",
        address="ada@example.org",
        date=datetime(2026, 5, 28, tzinfo=UTC),
        message_id="<1@example.org>",
    )
    personal |= {"subject": "x", "unsubscribe_url": mails.UNSUBSCRIBE, **said}
    skeleton = part("s", html=html, text=f"{text}@@cards@@\n@@lines@@", head=head(SITE))
    cards = [
        (part(str(number), kind="card", html=marked, text=plain), card)
        for number, (plain, marked, card) in enumerate(parts)
    ]
    message = assemble(personal, skeleton, cards)
    assert_equal_mail(message, personal, compose(skeleton, cards, personal))
    assert_ready(message)


def part(name: str, *, html: str, text: str, kind: str = "skeleton", head: bytes = b"") -> Part:
    return Part(hash=name, kind=kind, html=html.encode(), text=text.encode(), head=head)


# ------------------------------------------------------------------ the same for ever


def test_a_retry_has_the_same_bytes_whatever_changed(tmp_path: Path) -> None:
    templates = Path(shutil.copytree(mails.TEMPLATES, tmp_path / "templates"))
    before = Renderer(templates, SITE)
    chosen = mails.entries()
    personal = mails.frozen(before, chosen)
    skeleton, cards = before.skeleton(locale="en"), mails.parts(before, chosen)
    first = assemble(personal, skeleton, cards)

    for path in templates.rglob("*.html"):
        path.write_text(path.read_text("utf-8").replace("</body>", "Another</body>"), "utf-8")
    renamed = replace(SITE, name="Another", sender_address="other@example.com", list_id="o.x")
    after = Renderer(templates, renamed)
    voted = [replace(one, paper=replace(one.paper, signals={"upvotes": 9})) for one in chosen]
    later = assemble(
        mails.frozen(after, voted), after.skeleton(locale="en"), mails.parts(after, voted)
    )
    assert later.content != first.content
    assert later.sender == "other@example.com"
    stored = [(replace(card), flag) for card, flag in cards]
    assert assemble(json.loads(json.dumps(personal)), replace(skeleton), stored) == first


def test_what_a_site_says_in_the_headers_is_in_the_skeletons_address() -> None:
    def address(**changes: Any) -> str:
        site = replace(SITE, **changes)
        return Renderer(mails.TEMPLATES, site).skeleton(locale="en").hash

    assert address() == address()
    assert len({address(), address(reply_to="a@example.org"), address(list_id="x.y")}) == 3


# ------------------------------------------------------------------ what is known


@pytest.fixture
def stored(renderer: Renderer) -> list[Part]:
    """A skeleton, and the cards of three papers."""
    return [renderer.skeleton(locale="en"), *renderer.cards(mails.entries(3, 0), locale="en")]


def test_only_what_is_not_known_is_asked_for(renderer: Renderer, stored: list[Part]) -> None:
    assembler, hashes = Assembler(), {part.hash for part in stored}
    assert assembler.unknown(hashes) == hashes
    assembler.learn(stored[:2])
    assert assembler.unknown(hashes) == hashes - {part.hash for part in stored[:2]}
    assembler.learn(stored[2:])
    assert assembler.unknown(hashes) == set()
    skeleton, *cards = stored
    personal = mails.frozen(renderer, mails.entries(3, 0))
    named = [(card.hash, True) for card in cards]
    assert assembler.assemble(personal, skeleton.hash, named) == assemble(
        personal, skeleton, [(card, True) for card in cards]
    )


def test_what_was_not_asked_for_the_longest_is_forgotten(stored: list[Part]) -> None:
    assembler = Assembler(most=3)
    one, two, three, four = (part.hash for part in stored)
    assembler.learn(stored[:3])
    assert assembler.unknown([one]) == set()
    assembler.learn(stored[3:])
    assert assembler.unknown([one, two, three, four]) == {two}


def test_a_batch_is_never_forgotten_however_large(renderer: Renderer, stored: list[Part]) -> None:
    assembler = Assembler(most=1)
    assembler.unknown(part.hash for part in stored)
    for one in stored:
        assembler.learn([one])
    personal = mails.frozen(renderer, mails.entries(3, 0))
    assembler.assemble(personal, stored[0].hash, [(card.hash, True) for card in stored[1:]])


@pytest.mark.parametrize("missing", [0, 1])
def test_a_part_that_was_not_learnt_is_named(
    renderer: Renderer, stored: list[Part], missing: int
) -> None:
    assembler = Assembler()
    skeleton, card = (one.hash for one in stored[:2])
    assembler.learn(stored[1 - missing : 2 - missing])
    with pytest.raises(NotFound, match=stored[missing].hash):
        assembler.assemble(mails.frozen(renderer, mails.entries(1, 0)), skeleton, [(card, True)])


def test_mails_of_one_skeleton_differ_in_what_they_leave_out(renderer: Renderer) -> None:
    chosen = mails.entries()
    skeleton, cards = renderer.skeleton(locale="en"), mails.parts(renderer, chosen)
    assembler = Assembler()
    assembler.learn([skeleton, *(card for card, _ in cards)])
    personal = mails.frozen(renderer, chosen)
    for words in (personal, personal | {"lead": ""}, personal | {"unsubscribe_url": ""}):
        for shown in (cards, cards[:3], cards[3:], []):
            named = [(card.hash, flag) for card, flag in shown]
            made = assembler.assemble(words, skeleton.hash, named)
            assert made == assemble(words, skeleton, shown)


def test_a_place_without_words_is_refused_each_time(renderer: Renderer, stored: list[Part]) -> None:
    assembler = Assembler()
    assembler.learn(stored)
    personal = mails.frozen(renderer, mails.entries())
    lacking = {name: value for name, value in personal.items() if name != "lead"}
    for _ in range(2):
        assembler.assemble(personal | {"lead": ""}, stored[0].hash, [])
        with pytest.raises(TemplateError, match="@@lead@@"):
            assembler.assemble(lacking, stored[0].hash, [])


def test_a_skeleton_without_headers_makes_no_mail(renderer: Renderer, stored: list[Part]) -> None:
    personal = mails.frozen(renderer, mails.entries())
    with pytest.raises(TemplateError, match="an earlier version"):
        assemble(personal, replace(stored[0], head=b""), [])
