"""The fast way to a mail's bytes: the same mail as the plain way makes, and the same for ever."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.header import Header, decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import lxml.html
import pytest
from fast_mail_parser import parse_email
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from premailer import Premailer
from sqlalchemy import update

from digest import locales, schema
from digest.errors import NotFound, TemplateError
from digest.message import envelope, freeze, head, one_line
from digest.models import Frequency, Message, Part, Reason, Site, Wishes
from digest.rendering import Assembler, Entry, Renderer, assemble, compose
from digest.rendering.card import view
from digest.rendering.parts import HERE, INDENT, NOTE
from digest.rendering.prose import WIDTH, unwrapped, wrap
from digest.rendering.templating import LIBRARIES, Templates
from digest.storage.database import writing
from tests import mails
from tests.house import make_house
from tests.mails import SITE, parsed
from tests.replay import Replay
from tests.running import DIGEST, ROOT, environment
from tests.sink import Sink
from tests.test_locales import add

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


def plainly(personal: dict[str, str], html: str, text: str, *, site: Site = SITE) -> EmailMessage:
    """The same mail as an object of the standard library.

    It is not made into bytes: that folds a link so that no program finds it, and drops quotes.
    """
    plain = EmailMessage()
    plain["From"] = Address(site.sender_name or site.name, addr_spec=site.sender_address)
    plain["To"] = Address(personal["name"], addr_spec=personal["address"])
    # Given as it is, it would be decoded where it looks like an encoded word.
    plain["Subject"] = Header(one_line(personal["subject"]), "utf-8").encode(maxlinelen=0)
    plain["Date"] = personal["date"]
    plain["Message-ID"] = personal["message_id"]
    if site.reply_to:
        plain["Reply-To"] = site.reply_to
    plain["List-Id"] = f"{Header(site.name, 'utf-8').encode(maxlinelen=0)} <{site.list_id}>"
    plain["List-Unsubscribe"] = f"<{personal['unsubscribe_url']}>"
    plain["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    plain["List-Help"] = f"<{site.base_url}>"
    plain["List-Post"] = "NO"
    plain["Auto-Submitted"] = "auto-generated"
    plain.set_content(text, cte="quoted-printable")
    if personal["boundary"]:
        plain.add_alternative(html, subtype="html")
        plain.set_boundary(personal["boundary"])
    return plain


NAMED = ("From", "To", "List-Id")


def headers(message: EmailMessage) -> dict[str, str | tuple[str, str]]:
    """All headers as a program shows them; where one has a name, that and what it names."""
    assert len(message.keys()) == len(set(message.keys()))
    found: dict[str, str | tuple[str, str]] = {}
    for name, value in message.items():
        if name in NAMED:
            shown, _, rest = str(value).rpartition("<")
            found[name] = (shown.rstrip(), rest.rstrip(">"))
        else:
            found[name] = str(value)
    for name in ("From", "To"):
        [address] = message[name].addresses
        found[name] = (address.display_name, address.addr_spec)
    return found


def unfolded(content: bytes) -> dict[str, str | tuple[str, str]]:
    """All headers of a message, each line end before a blank taken away and nothing else.

    They are decoded by the older half of the standard library. The newer half, which the plain
    mail is an object of, leaves blanks between encoded words, which RFC 2047 6.2 takes away.
    """
    found = message_from_bytes(content)
    assert len(found.keys()) == len(set(found.keys()))
    shown: dict[str, str | tuple[str, str]] = {}
    for name, folded in found.items():
        value = re.sub(r"\r?\n(?=[ \t])", "", folded)
        if name in NAMED:
            person, _, rest = value.rpartition("<")
            shown[name] = (decoded(parseaddr(f"{person}<a@b>")[0]), rest.rstrip(">"))
        else:
            shown[name] = decoded(value) if name == "Subject" else value
    return shown


def decoded(value: str) -> str:
    return str(make_header(decode_header(value)))


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return bytes(part.get_payload(decode=True)).decode()


def assert_equal_mail(
    message: Message, personal: dict[str, str], bodies: tuple[str, str], *, site: Site = SITE
) -> None:
    """The message is the plain one, for two parsers that have nothing in common."""
    found, (html, text) = parsed(message), bodies
    wanted = headers(plainly(personal, html, text, site=site))
    assert unfolded(message.content) == wanted
    kinds = ["text/plain", "text/html"] if personal["boundary"] else []
    assert [part.get_content_type() for part in found.iter_parts()] == kinds
    second = parse_email(message.content, strict=True)
    assert second.subject == one_line(personal["subject"])
    assert second.from_ is not None
    assert (second.from_.display_name, second.from_.address) == wanted["From"]
    [to] = second.to
    assert (to.display_name or "", to.address) == wanted["To"]
    for name, value in wanted.items():
        if name not in (*NAMED, "Subject", "Content-Type"):
            assert second.headers[name] == [value]
    for plain in (body(found, "plain"), *second.text_plain):
        assert plain.replace("\r\n", "\n") == text
    if not kinds:
        assert found.get_content_type() == "text/plain"
        assert not second.text_html
        return
    for marked in (body(found, "html"), *second.text_html):
        assert marked.replace("\r\n", "\n") == html


# ------------------------------------------------------------------ the plain way


class Plain:
    """The templates as they would be without parts: each mail rendered whole, then inlined."""

    def __init__(self, folder: Path, site: Site) -> None:
        shutil.copytree(mails.TEMPLATES / "email", folder / "email")
        for path in folder.rglob("*.*"):
            path.write_text(_whole(path.read_text("utf-8")), "utf-8")
        self._templates = Templates(folder, site)

    def bodies(
        self, chosen: list[Entry], personal: dict[str, str], *, locale: str
    ) -> tuple[str, str]:
        """The HTML and the text."""
        language = locales.language(locale)
        text = {name: words for name, words in personal.items() if name != "name"}
        html = {name: unwrapped(words) for name, words in text.items()}
        for name, is_card, kind in (("cards", True, "card"), ("lines", False, "line")):
            shown = [
                (number, view(entry, language=language))
                for number, entry in enumerate(chosen, 1)
                if entry.card is is_card
            ]
            rows, entries = (
                [
                    self._templates.render(
                        f"email/digest/{kind}.{ending}",
                        language=language,
                        card=card,
                        here=f"{personal['feedback']}/{number}",
                        note=self._note(personal, number, in_html=ending == "html"),
                        acts=Markup(
                            self._templates.render(
                                "email/digest/acts.html",
                                language=language,
                                here=f"{personal['feedback']}/{number}",
                                mutes=card["mutes"],
                            )
                        ),
                    )
                    for number, card in shown
                ]
                for ending in ("html", "txt")
            )
            html[name] = Markup("").join(map(Markup, rows))
            text[name] = "\n\n".join(
                f"{number}.".ljust(4) + entry.strip().replace("\n", "\n    ")
                for (number, _), entry in zip(shown, entries, strict=True)
            )
        whole = self._templates.render("email/digest/body.html", language=language, **html)
        inlined = Premailer(
            whole,
            allow_network=False,
            strip_important=False,
            disable_basic_attributes=["align", "bgcolor", "height", "valign", "width"],
            cssutils_logging_level=logging.CRITICAL,
        ).transform()
        return inlined, self._templates.render("email/digest/body.txt", language=language, **text)

    def _note(self, personal: dict[str, str], number: int, *, in_html: bool) -> str:
        notes = personal.get("notes", "").split("\n")
        note = notes[number - 1] if number <= len(notes) else ""
        return note if in_html else wrap(note, WIDTH - INDENT)


def _whole(template: str) -> str:
    """Places as what Jinja puts in, stretches as its conditions, which leave line ends alone."""
    template = re.sub(r"(?:<!--)?@@\?(\w+)@@(?:-->)?", r"{%+ if \1 +%}", template)
    template = re.sub(r"(?:<!--)?@@/\w+@@(?:-->)?", "{%+ endif +%}", template)
    return re.sub(r"(?:<!--)?@@(\w+)@@(?:-->)?", r"{{ \1 }}", template)


def seen(html: str) -> str:
    """The document in one spelling: white space is one blank, and none between rows."""
    spelled = lxml.html.tostring(lxml.html.document_fromstring(html), encoding="unicode")
    spelled = re.sub(r"[ \t\r\n]+", " ", spelled)
    return re.sub(r" ?(</?(?:tr|td|table|p|h1|h2|html|head|body|style)\b[^>]*>) ?", r"\1", spelled)


def read(text: str) -> list[str]:
    """The lines, without blanks at their ends; many empty ones as two."""
    lines = "\n".join(line.rstrip(" ") for line in text.strip().split("\n"))
    return re.sub(r"\n{4,}", "\n\n\n", lines).split("\n")


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


SITES = {
    "ours": SITE,
    "bare": Site(
        name="x", base_url="http://127.0.0.1", sender_address="a@b.example", list_id="b.example"
    ),
    "far": replace(
        SITE,
        name="Ежедневная подборка научных статей для нашей лаборатории и всех её друзей",
        sender_name='"Digest", the <daily> one; and (more)',
        reply_to="answers@example.org",
        tagline="<b>& more</b>",
        postal_address="Straße 1,\n12345 Köln",
        sample=True,
    ),
    "long": replace(SITE, name="A name of many words " * 5 + "=?utf-8?q?x?=", imprint_url=""),
}
TAGS = ("en", "de", "ar")


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """German and Arabic with some words of their own."""
    folder = tmp_path_factory.mktemp("locales")
    add(folder, "de", {"Unsubscribe": "Abbestellen für <immer>", ("vote", "votes"): ("J", "Ja")})
    add(folder, "ar", {"Unsubscribe": "إلغاء الاشتراك", "Your preferences": "إعداداتك"})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(locales, "FOLDER", folder)
        for cached in (locales.language, locales.catalogue):
            cached.cache_clear()
        yield
    for cached in (locales.language, locales.catalogue):
        cached.cache_clear()


@pytest.fixture(scope="module")
def houses(
    languages: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Renderer, Plain]]:
    return {
        name: (Renderer(mails.TEMPLATES, site), Plain(tmp_path_factory.mktemp("plain"), site))
        for name, site in SITES.items()
    }


PAPERS = st.lists(
    st.builds(
        lambda title, summary, author, url, topic, card, full, noted: replace(
            mails.entry(
                title=title,
                summary=summary,
                abstract=f"{summary} {title}",
                authors=(author,),
                url=url,
                links={"pdf": url},
            ),
            reasons=(Reason(kind="topic", args=(topic,)),) if topic else (),
            card=card,
            full=full,
            noted=noted and card,
        ),
        *(WORDS, WORDS, WORDS, LINKS, WORDS, st.booleans(), st.booleans(), st.booleans()),
    ),
    min_size=1,
    max_size=4,
).map(lambda chosen: sorted(chosen, key=lambda entry: not entry.card))


@settings(max_examples=60)  # a mail goes through premailer
@given(
    chosen=PAPERS,
    name=WORDS,
    topics=st.lists(WORDS, max_size=6),
    links=st.tuples(LINKS, LINKS),
    where=st.sampled_from(sorted(SITES)),
    tag=st.sampled_from(TAGS),
    followed=WORDS,
    is_plain=st.booleans(),
)
def test_a_mail_is_what_the_plain_way_makes(
    houses: dict[str, tuple[Renderer, Plain]],
    *,
    chosen: list[Entry],
    name: str,
    topics: list[str],
    links: tuple[str, str],
    where: str,
    tag: str,
    followed: str,
    is_plain: bool,
) -> None:
    (renderer, plain), site = houses[where], SITES[where]
    reader = mails.subscriber(name=name, locale=tag, plain=is_plain)
    own = [[Reason(kind="author", args=(followed,))] if entry.noted else [] for entry in chosen]
    words = mails.personal(
        renderer,
        chosen,
        subscriber=reader,
        topics=topics,
        unsubscribe_url=links[0],
        preferences_url=links[1],
        notes=renderer.notes(own, locale=tag),
    )
    personal = words | envelope(reader, mails.slot(), now=mails.slot().due_at, site=site)
    skeleton, made = renderer.skeleton(locale=tag), renderer.cards(chosen, locale=tag)
    cards = [(part, entry.card) for part, entry in zip(made, chosen, strict=True)]
    message = assemble(personal, skeleton, cards)
    assert_equal_mail(message, personal, compose(skeleton, cards, personal), site=site)
    assert_ready(message)
    assert (message.sender, message.recipient) == (site.sender_address, personal["address"])
    html, text = plain.bodies(chosen, personal, locale=tag)
    assert f'lang="{tag}"' in html
    for got in (parsed(message), parse_email(message.content, strict=True)):
        if isinstance(got, EmailMessage):
            marked = "" if is_plain else body(got, "html")
            written = body(got, "plain")
        else:
            marked, [written] = "".join(got.text_html), got.text_plain
        assert not marked if is_plain else seen(marked) == seen(html)
        assert read(written.replace("\r\n", "\n")) == read(text)


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
BODY = st.lists(
    TEMPLATE.map(lambda text: text.replace("@", "a").replace(NOTE, "n")), min_size=1, max_size=4
).map(lambda texts: HERE.join(texts).strip() or "x")
# Two bodies and whether the paper has a card, and the reader's own reasons where it has a place.
CARDS = st.lists(
    st.tuples(BODY, BODY, st.booleans(), st.just("") | WORDS.map(one_line)), max_size=3
)


@given(
    html=TEMPLATE,
    text=TEMPLATE,
    parts=CARDS,
    is_plain=st.booleans(),
    said=st.fixed_dictionaries(
        {
            "lead": WORDS.map(one_line),
            "note": WORDS.map(one_line),
            "why": st.lists(WORDS.map(one_line).filter(bool), max_size=3).map("\n".join),
        }
    ),
)
def test_any_template_and_part(
    html: str,
    text: str,
    parts: list[tuple[str, str, bool, str]],
    said: dict[str, str],
    *,
    is_plain: bool,
) -> None:
    personal = freeze(
        name="Ada",
        address="ada@example.org",
        date=datetime(2026, 5, 28, tzinfo=UTC),
        message_id="<1@example.org>",
        plain=is_plain,
    )
    personal |= {"subject": "x", "unsubscribe_url": mails.UNSUBSCRIBE, **said}
    parts.sort(key=lambda one: not one[2])
    personal |= {"feedback": "-t_k", "notes": "\n".join(note for *_, note in parts)}
    skeleton = part("s", html=html, text=f"{text}@@cards@@\n@@lines@@", head=head(SITE))
    cards = [
        (
            part(
                str(number),
                kind="card",
                html=f"{marked}{NOTE if card and note else ''}.{marked}",
                text=f"{plain}\n{NOTE if card and note else ''}\n{plain}",
            ),
            card,
        )
        for number, (plain, marked, card, note) in enumerate(parts)
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


def test_a_retry_needs_no_library_that_renders(
    tmp_path: Path, database_url: str, sink: Sink, replay: Replay
) -> None:
    """The second attempt, by a process with other versions of them, which cannot render at all."""
    house = make_house(tmp_path, database_url, sink, replay.url)
    house.now = datetime(2026, 5, 20, 9, tzinfo=UTC)
    replay.today(house.now.date())
    house.collect()
    house.now += timedelta(hours=1)
    wishes = Wishes(zone="UTC", hour=10, frequency=Frequency.DAILY, max_papers=8, name="Ada")
    house.subscribe("ada@example.org", wishes)
    assert house.plan().digests == 1
    sink.on(".", "451 4.7.1 Later", times=1)
    house.deliver()
    with writing(house.services.engine) as connection:
        connection.execute(
            update(schema.paper).values(title="Changed", summary="Changed", signals={"upvotes": 9})
        )
    house.services.engine.dispose()

    libraries = tmp_path / "libraries"
    for name in LIBRARIES:
        about = libraries / f"{name}-99.0.dist-info" / "METADATA"
        about.parent.mkdir(parents=True)
        about.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    (libraries / "premailer.py").write_text("class Premailer:\n    pass\n")
    templates = Path(shutil.copytree(mails.TEMPLATES, tmp_path / "templates"))
    for path in (templates / "email").rglob("*.*"):
        with path.open("a") as file:
            file.write("{{ changed }}")  # compiles, and does not render
    env = environment(
        tmp_path,
        DATABASE_URL=database_url,
        ALLOW_UNSAFE_DATABASE="true",
        TEMPLATES_DIR=str(templates),
        SECRET_KEY="7fWc2LqV9xTzB4nKd8RyGmH5sJpQ1uAe",
        BASE_URL="https://changed.example.org",
        SITE_NAME="Changed",
        POSTAL_ADDRESS="Changed",
        SENDER_ADDRESS="changed@example.org",
        SMTP_HOST=sink.host,
        SMTP_PORT=str(sink.port),
        SMTP_TLS="none",
        MX_LOOKUPS="false",
    )
    env["PYTHONPATH"] = f"{libraries}:{ROOT}"

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

    use = "import importlib.metadata as m, premailer as p; print(m.version('premailer'));"
    rendered = run([sys.executable, "-c", f"{use} p.Premailer('<p>')"])
    assert rendered.stdout == "99.0\n"
    assert rendered.returncode == 1
    done = run([*DIGEST, "deliver", "--now=2026-05-20T10:20Z"])
    assert (done.returncode, done.stderr) == (0, "")
    first, second = sink.arrived
    assert (first.accepted, second.accepted) == (False, True)
    assert (second.sender, second.content) == (first.sender, first.content)
    assert b"hanged" not in second.content


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
    named = [card.hash for card in cards]
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
    assembler.assemble(personal, stored[0].hash, [card.hash for card in stored[1:]])


@pytest.mark.parametrize("missing", [0, 1])
def test_a_part_that_was_not_learnt_is_named(
    renderer: Renderer, stored: list[Part], missing: int
) -> None:
    assembler = Assembler()
    skeleton, card = (one.hash for one in stored[:2])
    assembler.learn(stored[1 - missing : 2 - missing])
    with pytest.raises(NotFound, match=stored[missing].hash):
        assembler.assemble(mails.frozen(renderer, mails.entries(1, 0)), skeleton, [card])


def test_mails_of_one_skeleton_differ_in_what_they_leave_out(renderer: Renderer) -> None:
    chosen = mails.entries()
    skeleton, cards = renderer.skeleton(locale="en"), mails.parts(renderer, chosen)
    assembler = Assembler()
    assembler.learn([skeleton, *(card for card, _ in cards)])
    personal = mails.frozen(renderer, chosen)
    for words in (personal, personal | {"lead": ""}, personal | {"unsubscribe_url": ""}):
        for shown in (cards, cards[:3], cards[3:], []):
            named = [[one.hash for one, flag in shown if flag is full] for full in (True, False)]
            made = assembler.assemble(words, skeleton.hash, *named)
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
