"""Handing messages to the mail server: bytes in, the server's acceptance or DeliveryError out.

One Connection carries one message at a time, is reused for many, and is thrown away after any
error that leaves its state in doubt. What a caller must know is told apart exactly:

- refused for this recipient, for good (5yz) or for now (4yz);
- refused because of the server or the way to it (421, connection, TLS, login): nobody's fault;
- lost before the server asked for the content (its 354): nothing was sent;
- lost after the content went out: nobody knows (RFC 5321 section 4.2.5, RFC 1047).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from digest.errors import DeliveryError
from digest.models import Message, Receipt

# RFC 5321 section 4.5.3.2.6: wait ten minutes for the answer to the final dot.
FINAL_TIMEOUT = 600.0
_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A mail server and how to speak to it. Timeouts in seconds."""

    host: str
    port: int
    tls: str = "starttls"  # tls | starttls | none
    user: str = ""
    password: str = ""
    timeout: float = 60.0
    final_timeout: float = FINAL_TIMEOUT
    messages: int = 100  # after so many a connection is closed and made anew

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


def enhanced_code(text: str) -> str | None:
    """The enhanced status code (RFC 3463) that a server's words begin with."""
    found = _ENHANCED.match(text)
    return found[1] if found else None


class Connection:
    """One connection to a mail server, opened when first needed."""

    def __init__(self, server: Server, *, tls_context: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._tls_context = tls_context
        self._client: aiosmtplib.SMTP | None = None
        self._carried = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, secure and log in, unless that is done; DeliveryError(host=True)."""
        if self._client is not None and self._client.is_connected:
            if self._carried < self._server.messages:
                return
            await self.close()
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user or None,
            password=server.password or None,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            timeout=server.timeout,
            tls_context=self._tls_context,
        )
        try:
            await client.connect()
        except aiosmtplib.SMTPResponseException as error:
            client.close()
            raise DeliveryError(_line(error.message), code=error.code, host=True) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            raise DeliveryError(
                f"{server.name} cannot be reached: {_line(str(error))}", host=True
            ) from error
        self._client, self._carried = client, 0

    async def close(self) -> None:
        """Say goodbye if the server still listens; never raises for a server that is gone."""
        client, self._client = self._client, None
        if client is None or not client.is_connected:
            return
        try:
            await client.quit(timeout=5)
        except (aiosmtplib.SMTPException, OSError):
            client.close()

    async def send(self, message: Message) -> Receipt:
        """Hand over one message; DeliveryError says what went wrong and whose fault it is."""
        await self.open()
        client = self._client
        assert client is not None
        try:
            receipt = await self._transact(client, message)
        except DeliveryError as error:
            if error.host or error.unknown:
                self._drop()
            else:
                await self._reset(client)
            raise
        except asyncio.CancelledError:
            self._drop()
            raise
        self._carried += 1
        return receipt

    async def _transact(self, client: aiosmtplib.SMTP, message: Message) -> Receipt:
        try:
            options = ["BODY=8BITMIME"] if client.supports_extension("8bitmime") else []
            if client.supports_extension("size"):
                options.append(f"SIZE={len(message.content)}")
            encoding = "ascii"
            if not (message.recipient.isascii() and message.sender.isascii()):
                if not client.supports_extension("smtputf8"):
                    raise DeliveryError(
                        "5.6.7 The mail server cannot carry addresses with other than ASCII"
                        " letters (no SMTPUTF8)",
                        code=553,
                        permanent=True,
                    )
                options.append("SMTPUTF8")
                encoding = "utf-8"
            await client.mail(message.sender, options=options, encoding=encoding)
            await client.rcpt(message.recipient, encoding=encoding)
            start = await client.execute_command(b"DATA")
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error.code, error.message) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryError(_line(str(error)), host=True) from error
        if start.code != aiosmtplib.SMTPStatus.start_input:
            raise _refusal(start.code, start.message)
        assert client.protocol is not None
        try:
            answer = await _hand_over(
                client.protocol, message.content, patience=self._server.final_timeout
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryError(
                f"The connection was lost after the message: {_line(str(error))}", unknown=True
            ) from error
        if answer.code != aiosmtplib.SMTPStatus.completed:
            raise _refusal(answer.code, answer.message)
        return Receipt(code=answer.code, text=_line(answer.message), relay=self._server.name)

    async def _reset(self, client: aiosmtplib.SMTP) -> None:
        try:
            await client.rset()
        except (aiosmtplib.SMTPException, OSError):
            self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


async def _hand_over(
    protocol: SMTPProtocol, content: bytes, *, patience: float
) -> aiosmtplib.SMTPResponse:
    """Write the content after the server's 354 and read the answer.

    aiosmtplib's own `data` does both steps in one and raises the same for a loss before and after
    the 354. Only after it may the message have arrived.
    """
    stuffed = re.sub(rb"(?m)^\.", b"..", content)
    end = b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"
    protocol._response_pending = True
    protocol.write(stuffed + end)
    return await protocol.read_response(timeout=patience)


def _refusal(code: int, text: str) -> DeliveryError:
    return DeliveryError(
        _line(text),
        code=code,
        # RFC 5321 section 4.5.3.1.10: 552 to RCPT means "too many", and is to be read as 452.
        permanent=500 <= code < 600,
        # RFC 5321 section 3.8: 421 closes the channel; it says nothing of the recipient.
        host=code == 421 or not 400 <= code < 600,
    )


def _line(text: str) -> str:
    return " ".join(text.split())[:500] or "no words"
