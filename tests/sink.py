"""A recording mail server on this machine that answers as a test tells it to.

    with Sink() as sink:
        sink.on("RCPT", "550 5.1.1 No such user", recipient="gone@example.org")
        sink.on(".", close=True, times=1)  # takes the content, then hangs up without an answer
        ...  # send to (sink.host, sink.port)
        assert sink.mails[0].recipients == ("ada@example.org",)

The steps are CONNECT, the verbs of SMTP (DATA is answered before any content is sent), and "." for
the answer to the content.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Literal, Self

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Step = Literal[
    "CONNECT",
    "EHLO",
    "HELO",
    "STARTTLS",
    "AUTH",
    "MAIL",
    "RCPT",
    "DATA",
    ".",
    "RSET",
    "NOOP",
    "QUIT",
]

PATIENCE = 10  # seconds for the server's thread to start and stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One content that arrived, with its envelope; `accepted` tells whether that was confirmed."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes  # CRLF, dots unstuffed
    accepted: bool
    connection: int  # 1 is the sink's first
    user: str | None  # who had logged in
    tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A self-signed certificate for localhost and 127.0.0.1; clients trust `path`."""

    path: Path
    key: Path


@dataclass(slots=True, kw_only=True)
class _Fault:
    step: Step
    reply: str
    recipient: str | None
    close: bool
    delay: float
    times: int | None


class Sink:
    """The server, running while its `with` block does.

    `login` is a user and password without which MAIL is refused. `tls` needs a certificate;
    "starttls" refuses everything before STARTTLS, "implicit" speaks TLS from the first byte.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        tls: Literal["none", "starttls", "implicit"] = "none",
        certificate: Certificate | None = None,
    ) -> None:
        self.port = 0
        self.connections = 0
        self.arrived: list[Mail] = []
        self.commands: list[str] = []  # as received: "RCPT TO:<ada@example.org>"
        self.transports: list[asyncio.Transport] = []
        self.login, self.tls = login, tls
        self.context: ssl.SSLContext | None = None
        if tls != "none":
            assert certificate is not None, "TLS needs a certificate"
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate.path, certificate.key)
        self._faults: list[_Fault] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sink", daemon=True)

    @property
    def mails(self) -> list[Mail]:
        """The accepted mails, in the order of arrival."""
        return [mail for mail in self.arrived if mail.accepted]

    def on(
        self,
        step: Step,
        reply: str = "",
        *,
        recipient: str | None = None,
        close: bool = False,
        delay: float = 0,
        times: int | None = None,
    ) -> None:
        """Answer a step with `reply`; without one, as usual, but `delay` seconds later.

        `close` hangs up after the reply, or instead of one. `recipient` restricts it to envelopes
        with that address, `times` to so many; what was told last wins.
        """
        self._faults.insert(
            0,
            _Fault(
                step=step, reply=reply, recipient=recipient, close=close, delay=delay, times=times
            ),
        )

    def fault(self, step: str, *, recipients: list[str]) -> _Fault | None:
        """What to do at a step instead of the usual; counts as done."""
        for fault in self._faults:
            if fault.step != step or fault.times == 0:
                continue
            if fault.recipient is not None and fault.recipient not in recipients:
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(self._listen()).result(PATIENCE)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._hang_up()).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _run(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _listen(self) -> asyncio.Server:
        context = self.context if self.tls == "implicit" else None
        return await self._loop.create_server(
            lambda: _Conversation(self, self._loop), self.host, 0, ssl=context
        )

    async def _hang_up(self) -> None:
        self._server.close()
        for transport in self.transports:
            transport.abort()
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        # An aborted transport closes its socket in the loop's next turn, under TLS in the third;
        # Server.wait_closed waits for them from Python 3.12.1 on only.
        for _turn in range(3):
            await asyncio.sleep(0)


class _Conversation(SMTP):
    """One connection."""

    def __init__(self, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            SimpleNamespace(handle_DATA=self._keep),
            hostname="sink.example.org",
            loop=loop,
            enable_SMTPUTF8=True,
            tls_context=sink.context if sink.tls == "starttls" else None,
            require_starttls=sink.tls == "starttls",
            auth_require_tls=sink.tls == "starttls",
            auth_exclude_mechanism=() if sink.login else ("LOGIN", "PLAIN"),
            authenticator=self._check,
        )
        self._sink = sink
        self._user: str | None = None
        self._smtp_methods = {
            verb: partial(self._obey, verb, method) for verb, method in self._smtp_methods.items()
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._sink.transports.append(transport)
        super().connection_made(transport)

    async def _handle_client(self) -> None:
        self._sink.connections += 1
        self._number = self._sink.connections
        if not await self._misbehave("CONNECT"):
            await super()._handle_client()

    async def _obey(
        self, verb: str, method: Callable[[str | None], Awaitable[None]], arg: str | None
    ) -> None:
        self._sink.commands.append(f"{verb} {arg or ''}".strip())
        if await self._misbehave(verb, arg=arg or ""):
            return
        assert self.session is not None
        if verb == "MAIL" and self._sink.login and not self.session.authenticated:
            await self.push("530 5.7.0 Authentication required")
            return
        await method(arg)

    async def _misbehave(self, step: str, *, arg: str = "") -> bool:
        """Do what the test said; False where the usual answer is still due."""
        assert self.envelope is not None
        named = [arg.partition("<")[2].partition(">")[0]]
        recipients = named if step == "RCPT" else self.envelope.rcpt_tos
        fault = self._sink.fault(step, recipients=recipients)
        if fault is None:
            return False
        await asyncio.sleep(fault.delay)
        if fault.reply:
            await self.push(fault.reply)
        if fault.close:
            await self._close()
        return bool(fault.reply)

    async def _keep(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Record a content and answer it."""
        fault = self._sink.fault(".", recipients=envelope.rcpt_tos)
        reply = (fault and fault.reply) or "250 2.0.0 Kept"
        answered = not (fault and fault.close and not fault.reply)
        self._sink.arrived.append(
            Mail(
                sender=envelope.mail_from or "",
                recipients=tuple(envelope.rcpt_tos),
                content=bytes(envelope.original_content or b""),
                accepted=answered and reply.startswith("2"),
                connection=self._number,
                user=self._user,
                tls=self._sink.tls == "implicit" or session.ssl is not None,
            )
        )
        if fault is not None:
            await asyncio.sleep(fault.delay)
            if fault.close:
                if fault.reply:
                    await self.push(fault.reply)
                await self._close()
        return reply

    async def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()
        # Closing cancels this task; nothing more is said until it has.
        await asyncio.Event().wait()

    def _check(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = (data.login.decode(), data.password.decode())
        good = given == self._sink.login
        self._user = given[0] if good else None
        return AuthResult(success=good, handled=False, auth_data=data if good else None)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A mail server without login and TLS."""
    with Sink() as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for the tests with TLS; made by openssl, without which they are skipped."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    made = Certificate(path=folder / "certificate.pem", key=folder / "key.pem")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(made.key), "-out", str(made.path)),
        ],
        check=True,
        capture_output=True,
    )
    return made
