"""The commands that announce a message, and its content as it travels."""

from __future__ import annotations

import re
from collections.abc import Mapping

from digest.errors import DeliveryError
from digest.models import Message

DATA = b"DATA\r\n"
_BREAKING = re.compile(r"[\s<>\x00-\x1f\x7f]")
_LEADING_DOT = re.compile(rb"\n\.")


def envelope(message: Message, extensions: Mapping[str, str]) -> list[bytes]:
    """MAIL, RCPT and DATA, each a line with its end.

    `extensions` are the server's (lower case, with what it said of each). DeliveryError where they
    do not suffice for this message.
    """
    pieces = message.pieces
    size = sum(map(len, pieces)) + (0 if pieces[-1].endswith(b"\r\n") else 2)
    options = b""
    if "size" in extensions:
        # RFC 1870 section 4: a limit of 0, or none, says nothing.
        limit = extensions["size"].strip().lstrip("0")
        # No more digits than a message can have: Python refuses to read thousands of them.
        if limit.isdecimal() and len(limit) < 20 and int(limit) < size:
            raise DeliveryError(
                f"5.3.4 The message has {size} bytes, the mail server takes {limit}",
                code=552,
                permanent=True,
            )
        options += b" SIZE=%d" % size
    ascii_headers = True
    if not (message.seven_bit or all(map(bytes.isascii, pieces))):
        if "8bitmime" in extensions:
            options += b" BODY=8BITMIME"
        ascii_headers = message.content.partition(b"\r\n\r\n")[0].isascii()
    if not (ascii_headers and message.recipient.isascii() and message.sender.isascii()):
        if "smtputf8" not in extensions:
            raise DeliveryError(
                "5.6.7 The mail server cannot carry addresses with other than ASCII letters"
                " (no SMTPUTF8)",
                permanent=True,
                host=message.recipient.isascii(),  # then it is the sender's own address
            )
        options += b" SMTPUTF8"
    return [
        b"MAIL FROM:<%b>%b\r\n" % (_path(message.sender), options),
        b"RCPT TO:<%b>\r\n" % _path(message.recipient),
        DATA,
    ]


def travelling(message: Message, *, ready: bool) -> list[bytes]:
    """The parts to write for a content: its bytes, and what ends it (RFC 5321 section 4.5.2).

    Unless it is `ready`, its lines that begin with a dot are given another one.
    """
    pieces = message.pieces
    if not ready:
        content = message.content
        if content.startswith(b".") or _LEADING_DOT.search(content):
            content = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        pieces = [content]
    return [*pieces, b".\r\n" if pieces[-1].endswith(b"\r\n") else b"\r\n.\r\n"]


def _path(address: str) -> bytes:
    """An address as a command holds it (RFC 5321 section 4.1.2); never one that ends it early."""
    try:
        if _BREAKING.search(address):
            raise ValueError(address)
        return address.encode()
    except ValueError as error:
        raise DeliveryError("5.1.3 This is no address", permanent=True) from error
