"""A recording mail server without a library between: it pipelines, and is as odd as a test asks.

    with RawSink(extensions=["PIPELINING", "SIZE 1000"]) as sink:
        sink.on("MAIL", "450 4.7.1 Slow down", recipient="digest@example.org")  # here: the sender
        sink.on("DATA", "354 Go on\\r\\n421 4.3.2 Closing")  # says more than it was asked

It answers a group of commands in one piece. What a test has it answer counts as said: a MAIL that
was answered with a yes is noted, a DATA that was answered with 354 is followed by a content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from tests.sink import Certificate, Mail, Sink, Step

STEPS: tuple[Step, ...] = (
    *("EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"),
)
NOBODY = "nobody"  # the recipient of a content that has none, for `on(".", recipient=NOBODY)`
USUAL = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10000000")


class RawSink(Sink):
    """The server, running while its `with` block does.

    `obliging` asks for a content even if there is nobody to give it to. `drips` sends its answers
    byte by byte.
    """

    def __init__(
        self,
        *,
        extensions: Sequence[str] = USUAL,
        obliging: bool = False,
        drips: bool = False,
        tls: Literal["none", "starttls", "implicit"] = "none",
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(tls=tls, certificate=certificate)
        self.extensions, self.obliging, self.drips = extensions, obliging, drips
        self.behind: list[bytes] = []  # what had come already when a content or STARTTLS was read
        self.cut: list[bytes] = []  # contents that never ended

    async def _listen(self) -> asyncio.Server:
        context = self.context if self.tls == "implicit" else None
        return await asyncio.start_server(
            lambda reader, writer: _Talk(self, reader, writer).hold(), self.host, 0, ssl=context
        )


class _Talk:
    """One connection."""

    def __init__(
        self, sink: RawSink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._sink, self._reader, self._writer = sink, reader, writer
        self._secure = sink.tls == "implicit"
        self._heard = b""
        self._said = b""  # and not sent yet
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._takes_content = False
        self._over = False

    async def hold(self) -> None:
        sink = self._sink
        assert isinstance(self._writer.transport, asyncio.Transport)
        sink.transports.append(self._writer.transport)
        sink.connections += 1
        self._number = sink.connections
        await self._answer("CONNECT", "220 sink.example.org ESMTP")
        while not self._over:
            await self._flush()
            try:
                more = await self._reader.read(1 << 16)
            except ConnectionError:
                break
            if not more:
                break
            self._heard += more
            while (part := self._next()) is not None:
                if self._takes_content:
                    await self._take(part)
                else:
                    await self._obey(part.decode("utf-8", "surrogateescape"))
        if self._takes_content and self._heard:
            sink.cut.append(self._heard)
        await self._flush()
        self._writer.close()

    def _next(self) -> bytes | None:
        """A command without its end, or a content as it came; None while there is no whole one."""
        if self._over:
            return None
        if not self._takes_content:
            line, end, rest = self._heard.partition(b"\r\n")
        elif self._heard.startswith(b".\r\n"):
            line, end, rest = b"", b".\r\n", self._heard[3:]
        else:
            line, end, rest = self._heard.partition(b"\r\n.\r\n")
            line += b"\r\n"
        if not end:
            return None
        self._heard = rest
        return line

    async def _obey(self, line: str) -> None:
        self._sink.commands.append(line)
        verb, _, arg = line.partition(" ")
        step = next((step for step in STEPS if step == verb), None)
        if step is None:
            self._say("500 5.5.2 What?")
            return
        named = arg.partition("<")[2].partition(">")[0]
        concerned = [named] if step in ("MAIL", "RCPT") else self._recipients
        answer = await self._answer(step, self._usual(step), concerned)
        self._takes_content = step == "DATA" and answer.startswith("354")
        self._over = self._over or step == "QUIT"
        if not answer.startswith("2"):
            return
        if step == "MAIL":
            self._sender = named
        elif step == "RCPT":
            self._recipients.append(named)
        elif step == "RSET":
            self._sender, self._recipients = None, []
        elif step == "STARTTLS":
            self._sink.behind.append(self._heard)
            await self._flush()
            assert self._sink.context is not None
            await self._writer.start_tls(self._sink.context)
            self._secure = True

    def _usual(self, step: Step) -> str:
        if step == "EHLO":
            more = ["STARTTLS"] if self._sink.tls == "starttls" and not self._secure else []
            *lines, last = ["sink.example.org", *self._sink.extensions, *more]
            return "\r\n".join([*(f"250-{line}" for line in lines), f"250 {last}"])
        if step == "MAIL" and self._sender is not None:
            return "503 5.5.1 One at a time"
        if step == "RCPT" and self._sender is None:
            return "503 5.5.1 From whom?"
        if step == "DATA" and not (self._recipients or self._sink.obliging):
            return "554 5.5.1 To whom?"
        return {"DATA": "354 Go on", "STARTTLS": "220 Go on", "QUIT": "221 Bye"}.get(
            step, "250 2.0.0 Fine"
        )

    async def _take(self, stuffed: bytes) -> None:
        """Record a content and answer it."""
        sink, recipients = self._sink, tuple(self._recipients)
        sink.behind.append(self._heard)
        mail = Mail(
            sender=self._sender or "",
            recipients=recipients,
            content=(b"\r\n" + stuffed).replace(b"\r\n.", b"\r\n")[2:],
            accepted=False,
            connection=self._number,
            user=None,
            tls=self._secure,
        )
        sink.arrived.append(mail)
        usual = "250 2.0.0 Kept" if recipients else "554 5.5.1 For nobody"
        answer = await self._answer(".", usual, recipients or [NOBODY])
        sink.arrived[sink.arrived.index(mail)] = replace(mail, accepted=answer.startswith("2"))
        self._sender, self._recipients, self._takes_content = None, [], False

    async def _answer(self, step: Step, usual: str, concerned: Sequence[str] = ()) -> str:
        """Say what the test said, or the usual; what that was."""
        fault = self._sink.fault(step, recipients=[*concerned])
        if fault is None:
            answer = usual
        else:
            if fault.delay:
                await self._flush()
                await asyncio.sleep(fault.delay)
            answer = fault.reply or ("" if fault.close else usual)
            self._over = fault.close
        if answer:
            self._say(answer)
        return answer

    def _say(self, reply: str) -> None:
        self._said += reply.encode("utf-8", "surrogateescape") + b"\r\n"

    async def _flush(self) -> None:
        said, self._said = self._said, b""
        pieces = [said[i : i + 1] for i in range(len(said))] if self._sink.drips else [said]
        for piece in pieces:
            self._writer.write(piece)
            await asyncio.sleep(0)
