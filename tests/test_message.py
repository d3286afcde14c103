"""The bytes of a mail: headers, bodies, and that nothing can slip into them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import compat32, default
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.errors import AddressError
from digest.message import build, envelope, mailbox, message_id, one_line
from digest.models import Message
from digest.rendering import Renderer
from tests import mails

NOW = datetime(2026, 5, 28, 6, 0, 1, tzinfo=UTC)
NASTY = [
    pytest.param("Plain ASCII", id="ascii"),
    pytest.param("Grüße aus Köln: naïve façades, Ærø", id="latin"),
    pytest.param(
        "大規模言語モデルの長い題名は折り返しが必要であり、文字の途中で切れてはならない", id="cjk"
    ),
    pytest.param(
        "🎉👨‍👩‍👧‍👦 emoji 🧪 in a title that goes on and on 🧬 until it folds 🔬", id="emoji"
    ),
    pytest.param("تعلم الآلة العميق في معالجة اللغات الطبيعية", id="rtl"),
    pytest.param("=?utf-8?q?Bcc=3A_evil=40example=2Eorg?=", id="encoded word"),
    pytest.param("x" * 78, id="one word of ASCII"),
    pytest.param('quotes " and \\ and (comments), <brackets>; commas: all', id="specials"),
]


def words(**changes: str) -> dict[str, str]:
    reader = mails.subscriber()
    made = envelope(reader, mails.slot(), now=NOW, site=mails.SITE)
    made |= {"subject": "Slow Agents", "unsubscribe_url": mails.UNSUBSCRIBE}
    return made | changes


def made(**changes: str) -> Message:
    return build(html="<p>Hello</p>\n", text="Hello\n", personal=words(**changes))


def parsed(message: Message) -> EmailMessage:
    found = BytesParser(policy=default).parsebytes(message.content)
    assert isinstance(found, EmailMessage)
    return found


def second_reading(message: Message, header: str) -> str:
    """A header as the standard library's older parser decodes it."""
    raw = BytesParser(policy=compat32).parsebytes(message.content)[header]
    return decoded(raw.replace("\r\n", ""))


def decoded(raw: str) -> str:
    return str(make_header(decode_header(raw)))


def person(message: Message, header: str) -> tuple[str, str]:
    """Name and address, decoded as RFC 2047 6.2 says: blanks between encoded words are none.

    (Python's newer parser keeps them in names, which is a fault of the reader.)
    """
    raw = BytesParser(policy=compat32).parsebytes(message.content)[header]
    name, address = parseaddr(raw.replace("\r\n", ""))
    return decoded(name) if "=?" in name else name, address


def long_lines(message: Message) -> list[bytes]:
    """Lines beyond 78 characters, but for the one that must not be folded."""
    lines = message.content.split(b"\r\n")
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    return [
        line for line in lines if len(line) > 78 and not line.startswith(b"List-Unsubscribe: <")
    ]


def unix(text: str) -> str:
    """A body with one kind of line end and none at its end."""
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


def test_the_headers_of_a_digest() -> None:
    message = made()
    found = parsed(message)
    assert {name: str(value) for name, value in found.items()} == {
        "From": "Paper Digest <digest@example.org>",
        "To": "Ada Lovelace <ada@example.org>",
        "Subject": "Slow Agents",
        "Date": "Thu, 28 May 2026 06:00:01 +0000",
        "Message-ID": words()["message_id"],
        "List-Id": '"Paper Digest" <digest.example.org>',
        "List-Unsubscribe": f"<{mails.UNSUBSCRIBE}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Help": "<https://digest.example.org>",
        "List-Post": "NO",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="{words()["boundary"]}"',
    }
    assert len(found.items()) == len(set(found.keys()))  # each once
    assert (message.sender, message.recipient) == ("digest@example.org", "ada@example.org")


def test_a_long_link_stays_a_link() -> None:
    url = "https://digest.example.org/unsubscribe/" + "x" * 400
    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in made(unsubscribe_url=url).content


def test_an_account_mail_belongs_to_no_list() -> None:
    personal = words()
    del personal["unsubscribe_url"]
    names = parsed(build(html="", text="", personal=personal)).keys()
    assert not [name for name in names if name.startswith("List-")]
    assert "Auto-Submitted" in names


def test_answers_go_where_the_site_wants_them() -> None:
    site = replace(mails.SITE, reply_to="lab@example.org", sender_name="Lab, Inc.")
    personal = envelope(mails.subscriber(), mails.slot(), now=NOW, site=site)
    found = parsed(build(html="", text="", personal=personal | {"subject": "x"}))
    assert found["Reply-To"] == "lab@example.org"
    assert found["From"].addresses[0].display_name == "Lab, Inc."


@pytest.mark.parametrize("text", NASTY)
def test_subject_and_names_come_back(text: str) -> None:
    message = made(subject=text, name=text, sender_name=text, list_name=text)
    found = parsed(message)
    assert found["Subject"] == second_reading(message, "Subject") == text
    for header, address in (("To", "ada@example.org"), ("From", "digest@example.org")):
        [one] = found[header].addresses
        assert one.addr_spec == address
        assert one.display_name.replace(" ", "") == text.replace(" ", "")
        assert person(message, header) == (text, address)
    assert message.content.isascii()
    assert not long_lines(message)


INJECTIONS = ["\r\nBcc: evil@example.org", "\nBcc: x", "\rBcc: x", "\x00", "\u2028Bcc: x", "\x85x"]


@pytest.mark.parametrize("attack", INJECTIONS)
@pytest.mark.parametrize("place", ["subject", "name", "sender_name", "list_name"])
def test_nothing_becomes_a_header(place: str, attack: str) -> None:
    message = made(**{place: f"before{attack} after"})
    assert parsed(message).keys() == parsed(made()).keys()
    assert b"\x00" not in message.content


@pytest.mark.parametrize("place", ["unsubscribe_url", "help_url"])
@pytest.mark.parametrize(
    "url", ["https://a/\r\nBcc: x", "https://a/ b", "https://a/>,<b", "https://ä/"]
)
def test_a_link_that_breaks_out_is_refused(place: str, url: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a header"):
        made(**{place: url})


TEXT = st.text(st.characters(codec="utf-8"), max_size=120)


@given(subject=TEXT, name=TEXT)
def test_any_words_parse_back(subject: str, name: str) -> None:
    message = made(subject=subject, name=name)
    found = parsed(message)
    assert found.keys() == parsed(made()).keys()
    assert second_reading(message, "Subject") == one_line(subject)
    assert found["To"].addresses[0].addr_spec == "ada@example.org"
    assert person(message, "To")[1] == "ada@example.org"
    assert not long_lines(message)


@given(html=TEXT, text=TEXT)
def test_any_bodies_parse_back(html: str, text: str) -> None:
    found = parsed(build(html=html, text=text, personal=words()))
    for kind, sent in (("plain", text), ("html", html)):
        part = found.get_body((kind,))
        assert part is not None
        assert unix(part.get_content()) == unix(sent)


def test_the_text_comes_first_and_both_bodies_are_whole() -> None:
    renderer = Renderer(mails.TEMPLATES, mails.SITE)
    chosen = mails.entries()
    html, text = mails.mail(renderer, chosen)
    personal = mails.personal(renderer, chosen) | words()
    message = build(html=html, text=text, personal=personal)
    parts = list(parsed(message).iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert [unix(part.get_content()) for part in parts] == [unix(text), unix(html)]
    assert not long_lines(message)
    assert build(html=html, text=text, personal=dict(personal)) == message


# ------------------------------------------------------------------ addresses and identity


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("ada@example.org", "ada@example.org"),
        ("Ada+papers@Example.ORG", "Ada+papers@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("grüße@bücher.example", "grüße@xn--bcher-kva.example"),
        ("digest@localhost", "digest@localhost"),
    ],
)
def test_an_address_on_the_wire(address: str, written: str) -> None:
    assert mailbox(address) == written
    message = made(address=mailbox(address))
    assert message.recipient == written
    raw = next(line for line in message.content.split(b"\r\n") if line.startswith(b"To:"))
    assert f"<{written}>".encode() in raw


@pytest.mark.parametrize(
    "address",
    ["", "ada", "@example.org", "ada@", "a b@example.org", "a@ex\r\nample.org", "a<b>@example.org",
     "ada@-\u0308.example"],
)  # fmt: skip
def test_no_address(address: str) -> None:
    with pytest.raises(AddressError):
        mailbox(address)


def test_one_digest_has_one_message_id() -> None:
    def identity(**changes: Any) -> str:
        reader, slot = mails.subscriber(**changes), mails.slot()
        return envelope(reader, slot, now=NOW, site=mails.SITE)["message_id"]

    assert identity() == identity(address="new@example.org", name="New")
    assert identity() != identity(id=43)
    assert identity().endswith("@example.org>")
    ids = {
        message_id(kind, key, sender_address="d@example.org")
        for kind in ("digest", "confirm")
        for key in ("42:2026-05-28", "42:2026-05-29", "4:2026-05-28")
    }
    assert len(ids) == 6


def test_a_changed_site_changes_nothing_frozen() -> None:
    before = words()
    renamed = replace(mails.SITE, name="Other", sender_address="other@example.com", list_id="o.x")
    assert envelope(mails.subscriber(), mails.slot(), now=NOW, site=renamed) != before
    assert b"Other" not in build(html="", text="", personal=before).content
