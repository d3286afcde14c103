"""The headers of a mail, and that nothing can slip into them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.parser import BytesParser
from email.policy import compat32
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.errors import AddressError
from digest.message import envelope, head, mailbox, message_id, one_line
from digest.models import Message, Part, Site
from digest.rendering import assemble
from tests import mails
from tests.mails import parsed

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
    made = envelope(mails.subscriber(), mails.slot(), now=NOW, site=mails.SITE)
    made |= {"subject": "Slow Agents", "unsubscribe_url": mails.UNSUBSCRIBE}
    return made | changes


def made(site: Site = mails.SITE, **changes: str) -> Message:
    """A mail of the site with these words, and with little in its bodies."""
    skeleton = Part(
        hash="5", kind="skeleton", head=head(site), html=b"<p>Hello</p>\n", text=b"Hello\n"
    )
    return assemble(words(**changes), skeleton, [])


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
    return [
        line
        for line in message.content.split(b"\r\n")
        if len(line) > 78 and not line.startswith(b"List-Unsubscribe: <")
    ]


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
    names = parsed(made(unsubscribe_url="")).keys()
    assert not [name for name in names if name.startswith("List-")]
    assert "Auto-Submitted" in names


def test_answers_go_where_the_site_wants_them() -> None:
    site = replace(mails.SITE, reply_to="lab@example.org", sender_name="Lab, Inc.")
    found = parsed(made(site))
    assert found["Reply-To"] == "lab@example.org"
    assert found["From"].addresses[0].display_name == "Lab, Inc."


@pytest.mark.parametrize("text", NASTY)
def test_subject_and_names_come_back(text: str) -> None:
    message = made(
        replace(mails.SITE, sender_name=text, name=text),
        subject=text,
        name=text,
    )
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
def test_nothing_becomes_a_header(attack: str) -> None:
    text = f"before{attack} after"
    site = replace(mails.SITE, name=text, sender_name=text)
    message = made(site, subject=text, name=text)
    assert parsed(message).keys() == parsed(made()).keys()
    assert b"\x00" not in message.content


@pytest.mark.parametrize(
    "url", ["https://a/\r\nBcc: x", "https://a/ b", "https://a/>,<b", "https://ä/"]
)
def test_a_link_that_breaks_out_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a header"):
        made(unsubscribe_url=url)
    with pytest.raises(ValueError, match="cannot stand in a header"):
        made(replace(mails.SITE, base_url=url))


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
    assert message.content.replace(raw, b"").isascii()


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
