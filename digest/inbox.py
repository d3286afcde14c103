"""The local inbox: a mail server on this machine that keeps what it gets in a Maildir.

It takes the relay's place where none is configured, so that the whole product can be seen without
one real mail. It stores as a final delivery agent does (RFC 5321, 4.4): one copy for each
recipient, headed by Return-Path and Delivered-To, which are the envelope.
"""

from __future__ import annotations

import asyncio
import logging
import mailbox
import re
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from aiosmtpd.smtp import SMTP, Envelope, Session

from digest.errors import AddressError, Busy, NotFound
from digest.suppression import address_key

HOST = "127.0.0.1"  # never another: what arrives here is not meant for the network
MAX_SIZE = 20 * 1024 * 1024  # bytes
HEAD = 64 * 1024  # bytes of a message that are read for its headers alone

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One line of the list."""

    key: str
    recipient: str  # envelope
    subject: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One message, taken apart for looking at; `html` or `text` is empty where it has none."""

    summary: Summary
    headers: tuple[tuple[str, str], ...]  # in order, unfolded and decoded
    html: str
    text: str
    source: bytes  # as stored: the envelope's two headers, then the bytes that arrived


class Inbox:
    """The server, running while its `with` block does; listens on this machine only.

    In a thread of its own, not by aiosmtpd's Controller: that one cannot take port 0, and on newer
    Pythons it waits for open connections when it stops.
    """

    def __init__(self, path: Path, *, port: int = 0) -> None:
        """Keep mail below `path`; port 0 takes a free one, known once the block runs."""
        self.host = HOST
        self.port = port
        self._path = path
        self._running, self._stop = threading.Event(), asyncio.Event()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        mailbox.Maildir(self._path, create=True)
        # It logs each command at INFO, and with it addresses.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        listener = _listen(self.port)
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(listener),), name="inbox", daemon=True
        )
        self._thread.start()
        self._running.wait()
        log.info("The local inbox listens.", extra={"action": "inbox.open", "port": self.port})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        session = partial(
            SMTP,
            _Handler(self._path),
            data_size_limit=MAX_SIZE,
            enable_SMTPUTF8=True,
            hostname="localhost",  # its own look-up of a name can hang without a network
            loop=self._loop,
        )
        server = await self._loop.create_server(session, sock=listener)
        self._running.set()
        await self._stop.wait()
        server.close()  # asyncio.run cancels the sessions that are still open


class _Handler:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep one copy for each recipient; aiosmtpd calls this by name."""
        sender, content = envelope.mail_from or "", envelope.content
        assert isinstance(content, bytes)
        if not all(address.isprintable() for address in (sender, *envelope.rcpt_tos)):
            return "553 5.1.3 A control character is no part of an address"
        box = _open(self._path)
        for recipient in envelope.rcpt_tos:
            trace = f"Return-Path: <{sender}>\r\nDelivered-To: {recipient}\r\n"
            box.add(trace.encode("utf-8", "surrogateescape") + content)
        return "250 2.0.0 Kept in the local inbox"


def keys(path: Path) -> list[str]:
    """The messages' names, newest first; empty where no inbox has been yet."""
    if not (path / "new").is_dir():
        return []
    # A name starts with seconds, microseconds, process and count, without leading zeros.
    return sorted(_open(path).keys(), key=_numbers, reverse=True)


def messages(path: Path, *, start: int = 0, limit: int = 50) -> list[Summary]:
    """At most `limit` messages from the `start`th newest on; reads their headers only."""
    chosen = keys(path)[start : start + limit]
    if not chosen:
        return []
    box, found = _open(path), []
    for key in chosen:
        with box.get_file(key) as file:
            found.append(_summary(key, message_from_bytes(file.read(HEAD))))
    return found


def read(path: Path, key: str) -> Mail:
    """The message of that name. Raises NotFound; a name is looked up in the list, never opened."""
    if key not in keys(path):
        raise NotFound(f"The inbox has no message {key!r}.")
    source = _open(path).get_bytes(key)
    message = message_from_bytes(source)
    return Mail(
        summary=_summary(key, message),
        headers=tuple((name, _decoded(value)) for name, value in message.raw_items()),
        html=_body(message, "text/html"),
        text=_body(message, "text/plain"),
        source=source,
    )


def forget(path: Path, address: str) -> int:
    """Remove the messages to an address, however it is spelled; how many."""
    removed, wanted = 0, _key(address)
    for key in keys(path):
        box = _open(path)
        with box.get_file(key) as file:
            recipient = _summary(key, message_from_bytes(file.read(HEAD))).recipient
        if _key(recipient) == wanted:
            box.discard(key)
            removed += 1
    return removed


def _key(address: str) -> str:
    try:
        return address_key(address)
    except AddressError:
        return address.casefold()


def _open(path: Path) -> mailbox.Maildir:
    return mailbox.Maildir(path, create=False)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise Busy(
            f"The local inbox cannot listen on {HOST}, port {port}: {error.strerror}."
        ) from error


def _numbers(key: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", key)]


def _summary(key: str, message: Message) -> Summary:
    headers = {name.lower(): _decoded(value) for name, value in reversed(list(message.raw_items()))}
    return Summary(
        key=key,
        recipient=headers.get("delivered-to", ""),
        subject=headers.get("subject", ""),
        received_at=datetime.fromtimestamp(_numbers(key)[0], UTC),
    )


def _decoded(value: str) -> str:
    """A header's words as a person reads them; what is not well-formed is shown as it came."""
    raw = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    unfolded = re.sub(r"\r?\n(?=[ \t])", "", raw)
    try:
        return str(make_header(decode_header(unfolded)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return unfolded


def _body(message: Message, kind: str) -> str:
    """The first part of that type that is not an attachment."""
    for part in message.walk():
        if part.get_content_type() == kind and part.get_content_disposition() != "attachment":
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            try:
                return content.decode(part.get_content_charset("utf-8"), "replace")
            except LookupError:
                return content.decode("utf-8", "replace")
    return ""
