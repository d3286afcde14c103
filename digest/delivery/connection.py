"""One connection to a mail server: envelopes, contents, and what each answer means."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Self

from digest.delivery.envelope import DATA, envelope, travelling
from digest.delivery.opening import reach
from digest.delivery.replies import refusal, reply_words, words
from digest.delivery.server import Server
from digest.delivery.wire import Lost, Wire
from digest.errors import DeliveryError
from digest.models import Message, Receipt

_RSET = b"RSET\r\n"
_AGREED = (2, 2, 3)  # the first digits of the answers to an envelope that is fine
_FAREWELL = 5.0  # seconds that the answer to QUIT is worth


class _Stage(Enum):
    """What the server may be told next."""

    READY = auto()  # an envelope
    SOILED = auto()  # RSET, for it holds part of an envelope
    OFFERED = auto()  # a content, and nothing else
    CHAINED = auto()  # nothing: an envelope is not answered yet


class Connection:
    """One connection to a mail server, opened when first needed; for one task at a time.

    A message is offered, then handed over; between the two the caller may note that it is about to
    go. With the content of one message the envelope of the next may travel. Whoever is cancelled
    while waiting for the server loses the connection.

    Contents have CRLF line ends. `ready` says that none has a line that begins with a dot: looking
    for one takes nearly as long as all the rest.
    """

    def __init__(
        self,
        server: Server,
        *,
        tls_context: ssl.SSLContext | None = None,
        ready: bool = False,
    ) -> None:
        self._server = server
        self._tls_context = tls_context
        self._ready = ready
        self._wire: Wire | None = None
        self._extensions: Mapping[str, str] = {}
        self._pipelines = False
        self._carried = 0  # envelopes since it was opened
        self._stage = _Stage.READY
        self._message: Message | None = None  # the one that was offered, or is to follow
        self._sent: Sequence[bytes] = ()  # the commands that travelled with a content

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_open(self) -> bool:
        """Whether the server was reached and has not gone since, as far as is known."""
        return self._wire is not None and not self._wire.lost

    @property
    def chains(self) -> bool:
        """Whether the envelope of the next message may travel with a content."""
        return self._pipelines and self._carried < self._server.messages

    async def open(self) -> None:
        """Connect, secure and log in, unless that is done; DeliveryError(host=True)."""
        if self.is_open and self._is_between and self._carried < self._server.messages:
            return
        await self.close()
        self._wire, self._extensions = await reach(self._server, self._tls_context)
        self._pipelines = "pipelining" in self._extensions
        self._carried, self._stage = 0, _Stage.READY

    async def close(self) -> None:
        """Say goodbye if the server still listens; never raises for a server that is gone."""
        if self._wire is not None and self._is_between:
            with suppress(Lost, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    self._wire.write([b"QUIT\r\n"], replies=1)
                    await self._wire.reply(self._server.timeout)
        self.drop()

    def drop(self) -> None:
        """End the connection at once, whatever it was about to do."""
        if self._wire is not None:
            self._wire.abort()
            self._wire = None

    def withdraw(self) -> None:
        """The message that was offered is not to be sent: nothing but the connection's end says so.

        A server that asked for a content takes whatever comes for it.
        """
        self.drop()

    async def send(self, message: Message) -> Receipt:
        """Offer one message and hand it over; DeliveryError as from these."""
        await self.offer(message)
        return await self.hand_over()

    async def offer(self, message: Message) -> None:
        """Announce a message; returns when the server asks for its content (354).

        DeliveryError says what went wrong and whose fault it is; nothing was sent then. The
        recipient's address is taken out of the server's words.
        """
        if not await self._announce(message):
            await self._announce(message)

    async def hand_over(self, following: Message | None = None) -> Receipt:
        """Send the content of the message that was offered, and wait for the server's acceptance.

        DeliveryError as from `offer`, and with `unknown` when no answer came. `following` is the
        message to be offered next: its envelope travels with the content where the server allows
        it. What becomes of that one is told by `offered`, and never here.
        """
        message, wire = self._message, self._wire
        assert message is not None
        assert wire is not None
        assert self._stage is _Stage.OFFERED
        chain = self._chain(following)
        self._message, self._sent = following, chain
        self._stage = _Stage.CHAINED if chain else _Stage.READY
        self._carried += bool(chain)
        content = travelling(message, ready=self._ready)
        try:
            wire.write([*content, *chain], replies=1 + len(chain))
        except Lost as error:
            why = words(str(error), message.recipient)
            raise DeliveryError(f"Nothing was sent: {why}", host=True) from error
        try:
            reply = await wire.reply(self._server.final_timeout)
        except Lost as error:
            self.drop()
            why = words(str(error), message.recipient)
            raise DeliveryError(
                f"No answer that says more came after the message: {why}", unknown=True
            ) from error
        if reply.code // 100 == 2:
            text = reply_words(reply, message.recipient)
            return Receipt(code=reply.code, text=text, relay=self._server.name)
        refused = refusal(reply, message.recipient)
        if refused.host:
            self.drop()
        if reply.code // 100 == 3:
            raise DeliveryError(refused.text, code=reply.code, unknown=True)
        raise refused

    def is_offered(self) -> bool:
        """Whether the server was already heard asking for the content of the `following`.

        If not, `offered` waits for what it says.
        """
        wire = self._wire
        if self._stage is not _Stage.CHAINED or wire is None or not wire.agrees(_AGREED):
            return False
        self._stage = _Stage.OFFERED
        return True

    async def offered(self) -> None:
        """What became of the `following` that `hand_over` was given: as `offer` tells it.

        Where its envelope did not travel, or the connection ended before it was read, it is
        offered now.
        """
        message = self._message
        assert message is not None
        travelled = self._stage is _Stage.CHAINED and self._wire is not None
        if not (travelled and await self._settle(message, self._sent, written=True)):
            await self.offer(message)

    # ------------------------------------------------------------------

    @property
    def _is_between(self) -> bool:
        return self._stage in (_Stage.READY, _Stage.SOILED)

    def _chain(self, following: Message | None) -> Sequence[bytes]:
        """The commands that may travel with a content; none where `offer` has more to do or say."""
        if following is None or not self.chains:
            return ()
        try:
            return envelope(following, self._extensions)
        except DeliveryError:
            return ()

    async def _announce(self, message: Message) -> bool:
        await self.open()
        commands = envelope(message, self._extensions)
        if self._stage is _Stage.SOILED:
            commands.insert(0, _RSET)
        self._message = message
        self._carried += 1
        return await self._settle(message, commands)

    async def _settle(
        self, message: Message, commands: Sequence[bytes], *, written: bool = False
    ) -> bool:
        """Send the commands of an envelope, unless they are `written`, and read every answer.

        Raises the first refusal. False when a connection that was used before turns out to be at
        its end with the first answer: servers close those that idled or carried enough, and a new
        one tells more.
        """
        server, wire = self._server, self._wire
        assert wire is not None
        first: DeliveryError | None = None
        for command in commands:
            try:
                if not written:
                    written = self._pipelines
                    group = commands if written else (command,)
                    wire.write(group, replies=len(group))
                patience = server.data_timeout if command is DATA else server.timeout
                reply = await wire.reply(patience)
            except Lost as error:
                no = DeliveryError(words(str(error), message.recipient), host=True)
            else:
                if reply.code // 100 == (3 if command is DATA else 2):
                    continue
                no = refusal(reply, message.recipient, at_rcpt=command.startswith(b"RCPT"))
            if no.host or command is _RSET:
                self.drop()
                if command is commands[0] and self._carried > 1:
                    return False
                raise first or no
            first = first or no
            if not written:
                break
        if first is None:
            self._stage = _Stage.OFFERED
            return True
        self._stage = _Stage.SOILED
        if reply.code // 100 == 3:
            await self._send_nothing(wire)
        raise first

    async def _send_nothing(self, wire: Wire) -> None:
        """A lone dot, for a content that the server asks for without a recipient to give it to.

        It is to be refused (RFC 2920 section 3.1); a server that takes it is not to be trusted.
        """
        with suppress(Lost):
            wire.write([b".\r\n"], replies=1)
            reply = await wire.reply(self._server.timeout)
            if reply.code // 100 in (4, 5) and not refusal(reply, "").host:
                return
        self.drop()
