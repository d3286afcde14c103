"""The mail server of the harness: it writes down what it accepts before it says so.

It runs in a process of its own, which no kill of a sender touches, and ends with its input. It
prints its port. Each line of its record is a JSON object with `kind` and `at` (monotonic seconds,
the same clock in all processes of a machine): `open`, `hello`, `accepted`, `fault` and `close`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.letter import read

GREETING = b"220 sink.example.org ESMTP\r\n"
EXTENSIONS = (
    b"250-sink.example.org\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
    b"250-ENHANCEDSTATUSCODES\r\n250 SIZE 100000000\r\n"
)
END = b"\r\n.\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How the sink behaves: waits in seconds, and the probability of each fault, for each mail.

    Faults on the envelope (`gone_before`, `storm`) leave nothing in doubt. One that hangs up when
    the content may have left (`gone_within`, `gone_after`) may make one delivery unknown.
    """

    wait: float = 0.0  # before the answer to a content: the longest that one is `sending`
    late: float = 0.0  # probability of an answer that comes `late_wait` seconds after the content
    late_wait: float = 0.0
    gone_before: float = 0.0  # hangs up at MAIL, RCPT or DATA
    gone_within: float = 0.0  # hangs up after its 354, as soon as some content came
    gone_after: float = 0.0  # hangs up instead of answering a content that it kept, or did not
    refuse: float = 0.0  # answers a content with 451
    storm: float = 0.0  # answers each RCPT with 451 for the next `storm_length` seconds
    storm_length: float = 0.0
    surely: int = 0  # each fault that has a probability happens within so many occasions

    @classmethod
    def from_json(cls, text: str) -> Manners:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Desk:
    """What the connections share: the record, the dice, a storm that is on."""

    def __init__(self, record: Path, manners: Manners, *, seed: int) -> None:
        self.manners = manners
        self.dice = random.Random(seed)
        self._occasions = Counter[str]()
        self._sure: dict[str, int] = {}
        self.connections = 0
        self.storm_ends = 0.0
        self._file = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, kind: str, connection: int, **more: Any) -> None:
        """One line, with the operating system when this returns."""
        line = {"kind": kind, "at": time.monotonic(), "connection": connection, **more}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def strikes(self, fault: str) -> bool:
        """Whether a fault happens on this occasion: by its probability, and once for sure."""
        probability: float = getattr(self.manners, fault)
        if probability <= 0:
            return False
        if self.manners.surely and fault not in self._sure:
            self._sure[fault] = self.dice.randint(1, self.manners.surely)
        self._occasions[fault] += 1
        by_chance = self.dice.random() < probability
        return by_chance or self._occasions[fault] == self._sure.get(fault)

    def storms(self) -> bool:
        now = time.monotonic()
        if now >= self.storm_ends and self.strikes("storm"):
            self.storm_ends = now + self.manners.storm_length
        return now < self.storm_ends


class Conversation(asyncio.Protocol):
    """One connection. While an answer is held back, what was sent after it waits too."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        desk.connections += 1
        self._number = desk.connections
        self._waiting = bytearray()
        self._answers = bytearray()
        self._searched = 0
        self._in_content = False
        self._held = False
        self._over = False
        self._recipient = b""
        self._leave_at = b""  # the step of the next envelope at which the sink hangs up
        self._leave_within = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._desk.write("open", self._number)
        transport.write(GREETING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._desk.write("close", self._number)

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        self._work()

    def _work(self) -> None:
        while not (self._held or self._over):
            if self._in_content and self._leave_within and self._waiting:
                self._hang_up("gone within", doubt=True)
                return
            part = self._next()
            if part is None:
                break
            if self._in_content:
                self._take(part)
            else:
                self._obey(part)
        self._flush()

    def _flush(self) -> None:
        if self._answers and not self._transport.is_closing():
            self._transport.write(bytes(self._answers))
        self._answers.clear()

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

    def _obey(self, line: bytes) -> None:
        verb = line[:4].upper()
        answer = b"250 2.0.0 Ok\r\n"
        if verb == b"EHLO":
            self._desk.write("hello", self._number, name=line[5:].decode("ascii", "replace"))
            answer = EXTENSIONS
        elif verb in (b"MAIL", b"RSET"):
            self._recipient = self._leave_at = b""
            if verb == b"MAIL" and self._desk.strikes("gone_before"):
                self._leave_at = self._desk.dice.choice((b"MAIL", b"RCPT", b"DATA"))
        elif verb == b"RCPT":
            if self._desk.storms():
                answer = b"451 4.7.1 Not in this weather\r\n"
                self._desk.write("fault", self._number, what="storm", doubt=False)
            else:
                self._recipient = line.partition(b"<")[2].partition(b">")[0]
        elif verb == b"DATA":
            if not self._recipient:
                answer = b"503 5.5.1 Nobody to send it to\r\n"
            elif self._leave_at != b"DATA":
                self._in_content = True
                self._leave_within = self._desk.strikes("gone_within")
                answer = b"354 Go on\r\n"
        elif verb == b"QUIT":
            self._answers += b"221 2.0.0 Bye\r\n"
            self._flush()
            self._over = True
            self._transport.close()
            return
        if verb == self._leave_at:
            self._hang_up("gone before", doubt=False)
        else:
            self._answers += answer

    def _take(self, content: bytes) -> None:
        """Keep a content at once or when its answer is due, answer it late, not now, or never."""
        self._in_content = False
        recipient, self._recipient = self._recipient, b""
        desk, manners = self._desk, self._desk.manners
        wait = manners.wait
        if desk.strikes("late"):
            wait = manners.late_wait
            desk.write("fault", self._number, what="late", doubt=False)
        early = desk.dice.random() < 0.5
        if desk.strikes("gone_after"):
            if early:
                self._keep(recipient, content)
            self._hang_up("gone after, kept" if early else "gone after", doubt=True)
            return
        if desk.strikes("refuse"):
            desk.write("fault", self._number, what="refused", doubt=False)
            self._answer_later(b"451 4.3.0 Not now\r\n", wait)
            return
        if early:
            self._keep(recipient, content)
            self._answer_later(b"250 2.0.0 Kept\r\n", wait)
        else:
            self._answer_later(b"250 2.0.0 Kept\r\n", wait, recipient, content)

    def _answer_later(
        self, answer: bytes, wait: float, recipient: bytes = b"", content: bytes = b""
    ) -> None:
        self._flush()
        self._held = True

        def answer_now() -> None:
            self._held = False
            if self._over:
                return  # whom it would be told is gone: nothing was accepted
            if content:
                self._keep(recipient, content)
            self._answers += answer
            self._work()

        asyncio.get_running_loop().call_later(wait, answer_now)

    def _keep(self, recipient: bytes, content: bytes) -> None:
        letter = read(content)
        self._desk.write(
            "accepted",
            self._number,
            recipient=recipient.decode(),
            **asdict(letter),
            hash=hashlib.sha256(content).hexdigest(),
        )

    def _hang_up(self, what: str, *, doubt: bool) -> None:
        self._flush()
        self._over = True
        self._desk.write("fault", self._number, what=what, doubt=doubt)
        self._transport.close()


async def serve(record: Path, manners: Manners, *, seed: int) -> None:
    """Run until the input ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    desk = Desk(record, manners, seed=seed)

    def await_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    server = await loop.create_server(lambda: Conversation(desk), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    threading.Thread(target=await_end, daemon=True).start()
    await ended.wait()


def main(arguments: list[str]) -> None:
    record, manners, seed = arguments
    asyncio.run(serve(Path(record), Manners.from_json(manners), seed=int(seed)))


if __name__ == "__main__":
    main(sys.argv[1:])
