"""The limit: one ready message, sent again and again, by Postfix's own tool or by bare asyncio."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import processes
from benchmarks.measuring import measure
from benchmarks.sending.trial import Sent, Trial
from benchmarks.sinks import Sink

SESSIONS = (1, 8, 16, 32)
SENDER, RECIPIENT = "digest@example.org", "reader@example.org"


def smtp_source() -> Path | None:
    """Where Postfix's load generator lies; POSTFIX_DIR names a directory it was unpacked in.

    Raises FileNotFoundError where that directory lacks it: who names one wants it measured.
    """
    unpacked = os.environ.get("POSTFIX_DIR")
    if unpacked:
        found = Path(unpacked) / "usr" / "sbin" / "smtp-source"
        if not found.is_file():
            raise FileNotFoundError(f"POSTFIX_DIR holds no smtp-source: {found} is not there")
        return found
    path = shutil.which("smtp-source", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return Path(path) if path else None


def by_postfix(program: Path, sink: Sink, *, sessions: int, mails: int, size: int) -> Trial:
    """`smtp-source -d`: that many sessions at once, each kept for all of its messages."""
    command = [
        *(str(program), "-d", "-s", str(sessions), "-m", str(mails), "-l", str(size)),
        *("-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{sink.port}"),
    ]
    libraries = {"LD_LIBRARY_PATH": str(program.parents[1] / "lib" / "postfix")}
    before = processes.cpu(sink.pid)
    took = measure(lambda: subprocess.run(command, check=True, env={**os.environ, **libraries}))
    return Trial(
        mails=mails, seconds=took.seconds, sender=took.cpu, sink=processes.cpu(sink.pid) - before
    )


@contextmanager
def prepare(port: int, mails: int, content: bytes, lines: int = 32) -> Iterator[Callable[[], Sent]]:
    """`mails` times the content over so many connections, each envelope with the content before."""

    def send() -> Sent:
        return Sent(mails=asyncio.run(_send_all(port, mails, content, lines)))

    yield send


async def _send_all(port: int, mails: int, content: bytes, lines: int) -> int:
    loop = asyncio.get_running_loop()
    shares = [mails // lines + (place < mails % lines) for place in range(lines)]
    ended = []
    for share in filter(None, shares):
        line = partial(_Line, content, share)
        ended.append((await loop.create_connection(line, "127.0.0.1", port))[1].ended)
    return sum(await asyncio.gather(*ended))


class _Line(asyncio.Protocol):
    """A connection that carries its share of the mails and tells how many were taken."""

    def __init__(self, content: bytes, share: int) -> None:
        self._envelope = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n".encode()
        self._last = content + b".\r\n"
        self._chained = self._last + self._envelope
        self._share = share
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._begun = self._heard = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b" ":
                self._hear(line)

    def _hear(self, answer: bytes) -> None:
        """The greeting, the answer to EHLO, then four for each mail: MAIL, RCPT, DATA, content."""
        self._heard += 1
        if answer[:1] not in b"23":
            self._transport.abort()
            self.ended.set_exception(RuntimeError(f"The mail server refused: {answer!r}"))
        elif self._heard == 1:
            self._transport.write(b"EHLO client.example.org\r\n")
        elif self._heard == 2:
            self._transport.write(self._envelope)
        elif answer[:3] == b"354":
            self._begun += 1
            more = self._begun < self._share
            self._transport.write(self._chained if more else self._last)
        elif self._heard == 2 + 4 * self._share:
            self._transport.close()
            self.ended.set_result(self._share)
