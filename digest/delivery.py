"""Handing messages to the mail server: bytes in, the server's acceptance or DeliveryError out.

One Connection carries one message at a time, is reused for many, and is thrown away after any
error that leaves its state in doubt. What a caller must know is told apart exactly:

- refused for this recipient, for good (5yz) or for now (4yz);
- refused because of the server or the way to it (421, connection, TLS, login): nobody's fault;
- lost before the server asked for the content (its 354): nothing was sent;
- lost after the content went out: nobody knows (RFC 5321 section 4.2.5, RFC 1047).
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiosmtplib

from digest.errors import DeliveryError
from digest.models import Message, Receipt

# RFC 5321 section 4.5.3.2.6: wait ten minutes for the answer to the final dot.
FINAL_TIMEOUT = 600.0
_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})\b")
# RFC 5321 section 3.8: 421 closes the channel; RFC 4954 section 6: the login is missing or no good.
# None of these says anything of the recipient.
_OURS = {421, 530, 534, 535, 538}
_BREAKING = re.compile(r"[\s<>\x00-\x1f\x7f]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


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

    @property
    def is_open(self) -> bool:
        """Whether the server was reached and has not gone since, as far as is known."""
        return self._client is not None and self._client.is_connected

    async def open(self) -> None:
        """Connect, secure and log in, unless that is done; DeliveryError(host=True)."""
        if self.is_open:
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
            # What the server can do is known only now, or, after STARTTLS, anew.
            await client._ehlo_or_helo_if_needed()
        except aiosmtplib.SMTPResponseException as error:
            client.close()
            raise DeliveryError(_line(error.message), code=error.code, host=True) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            raise DeliveryError(
                f"{server.name} cannot be used: {_why(error)}", host=True
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
            pass
        finally:
            client.close()

    async def send(self, message: Message) -> Receipt:
        """Hand over one message; DeliveryError says what went wrong and whose fault it is.

        The recipient's address is taken out of the server's words.
        """
        # RFC 5321 section 2.3.8: CR and LF stand together, and at the end of every line.
        content = b"\r\n".join([*message.content.splitlines(), b""])
        await self.open()
        try:
            try:
                await self._mail(message, content)
            except DeliveryError as error:
                if not (error.host and self._carried):
                    raise
                # Servers end connections that idled or carried enough; a new one tells more.
                self._drop()
                await self.open()
                await self._mail(message, content)
            self._carried += 1
            await self._ask(message, b"RCPT TO:" + _path(message.recipient))
            await self._ask(message, b"DATA", wanted=3)
            return await self._hand_over(message, content)
        except DeliveryError as error:
            if error.host or error.unknown:
                self._drop()
            else:
                await self._reset()
            raise
        except BaseException:
            self._drop()
            raise

    async def _mail(self, message: Message, content: bytes) -> None:
        client = self._client
        assert client is not None
        options = []
        if client.supports_extension("size"):
            options.append(b"SIZE=%d" % len(content))
        if not content.isascii() and client.supports_extension("8bitmime"):
            options.append(b"BODY=8BITMIME")
        headers = content.partition(b"\r\n\r\n")[0]
        if not (message.recipient.isascii() and message.sender.isascii() and headers.isascii()):
            if not client.supports_extension("smtputf8"):
                raise DeliveryError(
                    "5.6.7 The mail server cannot carry addresses with other than ASCII letters"
                    " (no SMTPUTF8)",
                    permanent=True,
                    host=message.recipient.isascii(),  # then it is the sender's own address
                )
            options.append(b"SMTPUTF8")
        await self._ask(message, b"MAIL FROM:" + _path(message.sender), *options)

    async def _ask(self, message: Message, *words: bytes, wanted: int = 2) -> None:
        """One command of the envelope; DeliveryError unless the answer begins with `wanted`.

        RFC 5321 section 4.3.2: a code that a client does not know means what its first digit means.
        """
        assert self._client is not None
        try:
            answer = await self._client.execute_command(*words)
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error.code, error.message, message) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryError(_line(str(error), message.recipient), host=True) from error
        if answer.code // 100 != wanted:
            at_rcpt = words[0].startswith(b"RCPT")
            raise _refusal(answer.code, answer.message, message, at_rcpt=at_rcpt)

    async def _hand_over(self, message: Message, content: bytes) -> Receipt:
        """Write the content after the server's 354 and read the answer.

        aiosmtplib's own `data` does both steps in one and raises the same for a loss before and
        after the 354. Only after it may the message have arrived.
        """
        assert self._client is not None
        protocol = self._client.protocol
        if protocol is None or not protocol.is_connected:
            raise DeliveryError("The connection was lost before the message", host=True)
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
        protocol._response_pending = True
        protocol.write(stuffed + b".\r\n")
        try:
            answer = await protocol.read_response(timeout=self._server.final_timeout)
        except (aiosmtplib.SMTPException, OSError) as error:
            why = _line(str(error), message.recipient)
            raise DeliveryError(
                f"No answer that says more came after the message: {why}", unknown=True
            ) from error
        text = _line(answer.message, message.recipient)
        if answer.code // 100 in (4, 5):
            raise _refusal(answer.code, text, message)
        if answer.code // 100 != 2:
            raise DeliveryError(text, code=answer.code, unknown=True)
        return Receipt(code=answer.code, text=text, relay=self._server.name)

    async def _reset(self) -> None:
        if self._client is None:
            return
        try:
            await self._client.rset()
        except (aiosmtplib.SMTPException, OSError):
            self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _path(address: str) -> bytes:
    """An address as a command holds it (RFC 5321 section 4.1.2); never one that ends it early."""
    try:
        if _BREAKING.search(address):
            raise ValueError(address)
        return b"<%b>" % address.encode()
    except ValueError as error:
        raise DeliveryError("5.1.3 This is no address", permanent=True) from error


def _refusal(code: int, text: str, message: Message, *, at_rcpt: bool = False) -> DeliveryError:
    return DeliveryError(
        _line(text, message.recipient),
        code=code,
        # RFC 5321 section 4.5.3.1.10: 552 to RCPT means "too many", and is to be read as 452.
        permanent=code // 100 == 5 and not (code == 552 and at_rcpt),
        host=code in _OURS or code // 100 not in (4, 5),
    )


def _why(error: Exception) -> str:
    for cause in (error, error.__cause__):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not to be trusted: {cause.verify_message}"
    return _line(str(error))


def _line(text: str, recipient: str = "") -> str:
    """A server's words on one line that every database takes, and without the recipient."""
    if recipient:
        text = re.sub(f"<?{re.escape(recipient)}>?", "<recipient>", text, flags=re.IGNORECASE)
    return " ".join(_UNPRINTABLE.sub(" ", text).split())[:500] or "no words"
