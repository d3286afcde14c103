"""The headers of a mail: what its site says in all of them, and what this one has of its own.

They are written here and not by the standard library's folding, which turns a URI longer than a
line into encoded words (RFC 2047 5 forbids it, and no mail program then finds the way out) and,
in some versions, drops the quotes of a long name: and a frozen digest must not depend on a
library's choices. Everything is 7-bit, so that no relay has a reason to re-encode what was signed;
only an address whose local part is not ASCII puts UTF-8 into the headers (RFC 6532), and needs
SMTPUTF8.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

import idna

from digest.errors import AddressError
from digest.models import Site, Slot, Subscriber

LINE = 76  # columns: an encoded word and its blank, RFC 2047 2
QUOTED = 60  # longest name that stands in quotes on one line
_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_URI = re.compile(r"[!-+\--;=?-~]*")  # RFC 3986 allows ASCII without blanks; "<>," end it here
_SPELLED = re.compile(rb"[^A-Za-z0-9!*+/-]")  # in a name's encoded word: RFC 2047 5, rule 3


def message_id(kind: str, key: str, *, sender_address: str) -> str:
    """The Message-ID of a mail: the same for the same kind and key, unlike any other.

    `kind` and `key` name the mail, as in ("digest", "42:2026-05-28"); the domain is the sender's.
    """
    address = mailbox(sender_address)
    seed = f"{kind} {key} {address}"
    return f"<{hashlib.sha256(seed.encode()).hexdigest()[:40]}@{address.rpartition('@')[2]}>"


def envelope(subscriber: Subscriber, slot: Slot, *, now: datetime, site: Site) -> dict[str, str]:
    """`freeze` for a digest: one Message-ID for a subscriber and slot, however often it is sent.

    Without HTML for who wants it so.
    """
    return freeze(
        name=subscriber.name,
        address=subscriber.address,
        date=now,
        message_id=message_id(
            "digest",
            f"{subscriber.id}:{slot.date.isoformat()}",
            sender_address=site.sender_address,
        ),
        plain=subscriber.plain,
    )


def freeze(
    *, name: str, address: str, date: datetime, message_id: str, plain: bool = False
) -> dict[str, str]:
    """What the headers of one mail are made of, beside the words; JSON-ready, to be stored.

    A plain mail has one body, the text, and therefore no boundary. Raises AddressError for an
    address that cannot be written to.
    """
    return {
        "name": one_line(name),
        "address": mailbox(address),
        "date": _date(date),
        "message_id": message_id,
        "boundary": "" if plain else "=_" + hashlib.sha256(message_id.encode()).hexdigest()[:40],
    }


@lru_cache(maxsize=16)  # all mails of a batch share theirs
def _date(date: datetime) -> str:
    return format_datetime(date)


def head(site: Site) -> bytes:
    """What begins each mail of a site, with places (`@@to@@`) for what `own` makes of one.

    The first line is the envelope's sender, the others are the headers. With an unsubscribe_url
    it is a list's mail and says how to leave (RFC 2369, RFC 8058); without one it is an answer
    to somebody's request. Raises AddressError.
    """
    sender = mailbox(site.sender_address)
    headers = [
        ("From", _person(site.sender_name or site.name, sender)),
        ("To", "@@to@@"),
        ("Subject", "@@subject@@"),
        ("Date", "@@date@@"),
        ("Message-ID", "@@message_id@@"),
    ]
    if site.reply_to:
        headers.append(("Reply-To", mailbox(site.reply_to)))
    listed = [
        ("List-Id", _person(site.name, site.list_id)),
        ("List-Unsubscribe", "<@@unsubscribe_url@@>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("List-Help", f"<{_uri(site.base_url)}>"),
        ("List-Post", "NO"),
    ]
    last = [
        # RFC 3834 5: keeps out-of-office replies away. A digest is periodic, not an answer.
        ("Auto-Submitted", "auto-generated"),
        ("MIME-Version", "1.0"),
    ]
    parted = [("Content-Type", 'multipart/alternative;\r\n boundary="@@boundary@@"')]
    written = (
        f"{sender}\r\n{_lines(headers)}"
        f"@@?unsubscribe_url@@{_lines(listed)}@@/unsubscribe_url@@{_lines(last)}"
        f"@@?boundary@@{_lines(parted)}@@/boundary@@"
    )
    return written.encode()


def own(personal: Mapping[str, str]) -> dict[str, str]:
    """What one mail has in the places of `head`, from the words and what `freeze` made."""
    return {
        "to": _person(personal["name"], personal["address"]),
        "subject": _subject(personal["subject"]),
        "date": personal["date"],
        "message_id": personal["message_id"],
        "unsubscribe_url": _uri(personal.get("unsubscribe_url", "")),
        "boundary": personal["boundary"],
    }


@lru_cache(maxsize=1024)
def mailbox(address: str) -> str:
    """An address as it is written on the wire: the local part as typed, the domain in A-labels.

    Raises AddressError.
    """
    local, _, domain = address.rpartition("@")
    if not local or not domain or address != one_line(address) or set(" <>") & set(address):
        raise AddressError("An address in the headers is none that mail can be sent to.")
    if domain.isascii():
        return f"{local}@{domain.lower()}"
    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode('ascii')}"
    except idna.IDNAError as error:
        raise AddressError(
            "An address in the headers has no domain that mail can be sent to."
        ) from error


def one_line(text: str) -> str:
    """The text without what would end, split or break a header."""
    return " ".join(_REFUSED.sub(" ", text).split())


def _lines(headers: list[tuple[str, str]]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers)


def _person(name: str, address: str) -> str:
    """`"Ada Lovelace" <ada@example.org>`, folded before the address where it is long."""
    name = one_line(name)
    if not name:
        return f"<{address}>"
    if name.isascii() and len(name) <= QUOTED and "=?" not in name:
        phrase = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    else:
        phrase = _encoded(name, indent=len("Reply-To: "))
    last = phrase.rpartition("\n")[2]
    blank = " " if len(last) + len(address) + len("List-Id:  <>") <= LINE else "\r\n "
    return f"{phrase}{blank}<{address}>"


@lru_cache(maxsize=1024)  # many mails have the same best paper
def _subject(text: str) -> str:
    """The subject as it is where ASCII fits, else in encoded words."""
    text, indent = one_line(text), len("Subject: ")
    if text.isascii() and "=?" not in text and len(text) + indent <= LINE:
        return text
    return _encoded(text, indent=indent)


def _encoded(text: str, *, indent: int) -> str:
    """The text as encoded words (RFC 2047), one on each line, none with a part of a character."""
    way, spell = ("q", _q) if len(_q(text)) <= len(_b(text)) else ("b", _b)
    words, room = [], LINE - indent
    while text:
        end = _fitting(text, room - len("=?utf-8?q??="), spell)
        words.append(f"=?utf-8?{way}?{spell(text[:end])}?=")
        text, room = text[end:], LINE - len(" ")
    return "\r\n ".join(words)


def _fitting(text: str, room: int, spell: Callable[[str], str]) -> int:
    """How many characters, when spelled, fill the room."""
    ends = range(1, min(len(text), room) + 1)
    return bisect_right(ends, room, key=lambda end: len(spell(text[:end])))


def _b(text: str) -> str:
    return b64encode(text.encode()).decode()


def _q(text: str) -> str:
    return _SPELLED.sub(_spelled, text.encode()).decode()


def _spelled(match: re.Match[bytes]) -> bytes:
    return b"_" if match[0] == b" " else b"=%02X" % match[0][0]


def _uri(url: str) -> str:
    """A URL that can stand in a header."""
    if not _URI.fullmatch(url):
        raise ValueError("a URL cannot stand in a header")
    return url
