"""A mail server that takes everything, as fast as plain asyncio can, and counts.

`--delay` holds every answer back for so many milliseconds, as a server far away would; `--folder`
keeps each mail in a file, its recipient in the first line. It prints its port, then, for each line
that it reads, how many mails it took so far; it ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

GREETING = b"220 sink.example.org ESMTP\r\n"
EXTENSIONS = (
    b"250-sink.example.org\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
    b"250-ENHANCEDSTATUSCODES\r\n250 SIZE 100000000\r\n"
)
GOODBYE = b"221 2.0.0 Bye\r\n"
END = b"\r\n.\r\n"
ROOM = 1 << 18  # bytes; a mail must fit


@dataclass(slots=True, kw_only=True)
class Office:
    """What all connections share."""

    delay: float  # seconds
    folder: Path | None
    mails: int = 0

    def take(self, recipient: bytes, content: memoryview) -> None:
        self.mails += 1
        if self.folder is not None:
            whole = recipient + b"\n" + bytes(content)
            (self.folder / str(self.mails)).write_bytes(whole)


class Conversation(asyncio.BufferedProtocol):
    """One connection: commands are answered, pipelined or not; contents are only looked through."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._buffer = bytearray(ROOM)
        self._view = memoryview(self._buffer)
        self._filled = self._searched = 0
        self._in_content = False
        self._recipient = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._answer(GREETING)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        start, answers = 0, bytearray()
        while True:
            end = END if self._in_content else b"\r\n"
            place = self._buffer.find(end, max(start, self._searched), self._filled)
            if place < 0:
                break
            part, start = self._view[start:place], place + len(end)
            answers += self._take(part) if self._in_content else self._obey(bytes(part))
            self._searched = start
        rest = self._filled - start
        if start:
            self._buffer[:rest] = self._buffer[start : self._filled]
        self._filled, self._searched = rest, max(0, rest - len(END) + 1)
        if answers:
            self._answer(bytes(answers))

    def _answer(self, words: bytes) -> None:
        if self._office.delay:
            asyncio.get_running_loop().call_later(self._office.delay, self._say, words)
        else:
            self._say(words)

    def _say(self, words: bytes) -> None:
        self._transport.write(words)
        if words.endswith(GOODBYE):
            self._transport.close()

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
            return GOODBYE
        return b"250 2.0.0 Ok\r\n"

    def _take(self, content: memoryview) -> bytes:
        self._in_content = False
        self._office.take(self._recipient, content)
        return b"250 2.0.0 Taken\r\n"


async def serve(office: Office) -> None:
    """Run until the input ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(lambda: print(office.mails, flush=True))
        loop.call_soon_threadsafe(ended.set)

    server = await loop.create_server(lambda: Conversation(office), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=listen, daemon=True).start()
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0, help="milliseconds")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    asyncio.run(serve(Office(delay=given.delay / 1000, folder=given.folder)))


if __name__ == "__main__":
    main()
