"""A mail server that takes everything, as fast as plain asyncio can, and counts.

It prints its port, then a line of JSON for each line that it reads; it ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from dataclasses import dataclass, field

GREETING = b"220 sink.example.org ESMTP\r\n"
EXTENSIONS = (
    b"250-sink.example.org\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
    b"250-ENHANCEDSTATUSCODES\r\n250 SIZE 100000000\r\n"
)
END = b"\r\n.\r\n"


@dataclass(slots=True)
class Tally:
    """What arrived since the last report."""

    recipients: list[bytes] = field(default_factory=list)
    own: int = 0
    size: int = 0
    started: float = 0.0

    def report(self) -> str:
        """The counts as JSON, and a new start."""
        found = {
            "mails": len(self.recipients),
            "recipients": len(set(self.recipients)),
            "own": self.own,
            "size": self.size,
            "cpu": time.process_time() - self.started,
        }
        self.recipients.clear()
        self.own = self.size = 0
        self.started = time.process_time()
        return json.dumps(found)


class Conversation(asyncio.Protocol):
    """One connection: commands are answered, pipelined or not; contents are looked through."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._waiting = bytearray()
        self._searched = 0
        self._in_content = False
        self._recipient = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        answers = bytearray()
        while (part := self._next()) is not None:
            answers += self._take(part) if self._in_content else self._obey(part)
        if answers:
            self._transport.write(answers)
        if answers.endswith(b"221 2.0.0 Bye\r\n"):
            self._transport.close()

    def _next(self) -> bytes | None:
        """The next whole command or content."""
        end = END if self._in_content else b"\r\n"
        place = self._waiting.find(end, self._searched)
        if place < 0:
            self._searched = max(0, len(self._waiting) - len(end) + 1)
            return None
        part = bytes(self._waiting[:place])
        del self._waiting[: place + len(end)]
        self._searched = 0
        return part

    def _obey(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return EXTENSIONS
        if verb == b"RCPT":
            self._recipient = line.partition(b"<")[2].partition(b">")[0]
        elif verb == b"DATA":
            self._in_content = True
            return b"354 Go on\r\n"
        elif verb == b"QUIT":
            return b"221 2.0.0 Bye\r\n"
        return b"250 2.0.0 Ok\r\n"

    def _take(self, content: bytes) -> bytes:
        self._in_content = False
        self._tally.recipients.append(self._recipient)
        self._tally.own += b"<" + self._recipient + b">" in content[:1000]
        self._tally.size += len(content)
        return b"250 2.0.0 Taken\r\n"


async def serve() -> None:
    """Run until the input ends."""
    tally, loop = Tally(), asyncio.get_running_loop()
    ended = asyncio.Event()

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(lambda: print(tally.report(), flush=True))
        loop.call_soon_threadsafe(ended.set)

    server = await loop.create_server(lambda: Conversation(tally), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=listen, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve())
