"""Two bodies and the frozen values become the bytes of one mail, the same bytes each time.

The headers are written here and not by the standard library's folding, which turns a URI longer
than a line into encoded words (RFC 2047 5 forbids it, and no mail program then finds the way
out) and, in some versions, drops the quotes of a long name. Everything is 7-bit, lines included,
so that no relay has a reason to re-encode what was signed; only an address whose local part is
not ASCII puts UTF-8 into the headers (RFC 6532), and needs SMTPUTF8.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

import idna

from digest.errors import AddressError
from digest.models import Message, Site, Slot, Subscriber

LINE = 76  # columns: an encoded word and its blank, RFC 2047 2
QUOTED = 60  # longest name that stands in quotes on one line
_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def message_id(kind: str, key: str, *, sender_address: str) -> str:
    """The Message-ID of a mail: the same for the same kind and key, unlike any other.

    `kind` and `key` name the mail, as in ("digest", "42:2026-05-28"); the domain is the sender's.
    """
    address = mailbox(sender_address)
    seed = f"{kind} {key} {address}"
    return f"<{hashlib.sha256(seed.encode()).hexdigest()[:40]}@{address.rpartition('@')[2]}>"


def envelope(subscriber: Subscriber, slot: Slot, *, now: datetime, site: Site) -> dict[str, str]:
    """`freeze` for a digest: one Message-ID for a subscriber and slot, however often it is sent."""
    return freeze(
        site,
        name=subscriber.name,
        address=subscriber.address,
        date=now,
        message_id=message_id(
            "digest",
            f"{subscriber.id}:{slot.date.isoformat()}",
            sender_address=site.sender_address,
        ),
    )


def freeze(
    site: Site, *, name: str, address: str, date: datetime, message_id: str
) -> dict[str, str]:
    """What the headers are made of, beside the words: JSON-ready, to be stored with the digest.

    The site's part is in it too: a retry is the same mail even when the sender's name changed.
    Raises AddressError for an address that cannot be written to.
    """
    return {
        "name": one_line(name),
        "address": mailbox(address),
        "date": format_datetime(date),
        "message_id": message_id,
        "boundary": "=_" + hashlib.sha256(message_id.encode()).hexdigest()[:40],
        "sender_name": one_line(site.sender_name or site.name),
        "sender_address": mailbox(site.sender_address),
        "reply_to": mailbox(site.reply_to) if site.reply_to else "",
        "list_name": one_line(site.name),
        "list_id": site.list_id,
        "help_url": site.base_url,
    }


def build(*, html: str, text: str, personal: Mapping[str, str]) -> Message:
    """The mail, from its bodies and `personal`: the words and what `freeze` made.

    With an `unsubscribe_url` it is a list's mail and says how to leave (RFC 2369, RFC 8058);
    without one it is an answer to somebody's request.
    """
    headers = [
        _header("From", _person(personal["sender_name"], personal["sender_address"])),
        _header("To", _person(personal["name"], personal["address"])),
        _header("Subject", _words(personal["subject"], indent=len("Subject: "))),
        _header("Date", personal["date"]),
        _header("Message-ID", personal["message_id"]),
    ]
    if personal["reply_to"]:
        headers.append(_header("Reply-To", personal["reply_to"]))
    if personal.get("unsubscribe_url"):
        headers += [
            _header("List-Id", _person(personal["list_name"], personal["list_id"])),
            _header("List-Unsubscribe", f"<{_uri(personal['unsubscribe_url'])}>"),
            _header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            _header("List-Help", f"<{_uri(personal['help_url'])}>"),
            _header("List-Post", "NO"),
        ]
    # RFC 3834 5: keeps out-of-office replies away. A digest is periodic, not an answer.
    headers.append(_header("Auto-Submitted", "auto-generated"))

    body = EmailMessage(policy=SMTP)
    body.set_content(text, cte="quoted-printable")
    body.add_alternative(html, subtype="html", cte="quoted-printable")
    body.set_boundary(personal["boundary"])
    return Message(
        sender=personal["sender_address"],
        recipient=personal["address"],
        content="".join(headers).encode() + body.as_bytes(),
    )


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


def _header(name: str, value: str) -> str:
    return f"{name}: {value}\r\n"


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


def _words(text: str, *, indent: int) -> str:
    """Unstructured text: as it is where ASCII fits, else in encoded words."""
    text = one_line(text)
    if text.isascii() and "=?" not in text and len(text) + indent <= LINE:
        return text
    return _encoded(text, indent=indent)


def _encoded(text: str, *, indent: int) -> str:
    header = Header(text, "utf-8", maxlinelen=LINE, header_name="x" * (indent - 2))
    return header.encode(linesep="\r\n")


def _uri(url: str) -> str:
    """A URL that can stand in a header: RFC 3986 allows ASCII without blanks."""
    if not url.isascii() or one_line(url) != url or set(" <>,") & set(url):
        raise ValueError("a URL cannot stand in a header")
    return url
