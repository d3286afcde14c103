"""Commands out, replies in: the part of a connection that every message passes.

A protocol of our own, since a message may cost no more than a few dozen microseconds here:
replies are read into one buffer, several of them wake their reader once, and time limits cost one
timer for a connection, not one for each reply.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence

from digest.delivery.replies import Reply

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*)|\r?)", re.DOTALL)
_READ = 4096  # bytes read at once: some fifty replies
_LONGEST = 32 * 1024  # bytes of one reply, all its lines together


class Lost(Exception):
    """The connection is gone, or what the server says makes no sense; str() says how."""


class Wire(asyncio.BufferedProtocol):
    """Takes over a transport on which the server waits for a command.

    One task at a time. `tick` is the shortest time limit that `reply` will be given, in seconds.
    """

    def __init__(self, transport: asyncio.Transport, *, tick: float) -> None:
        self._transport, self._tick = transport, tick
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_READ))
        self._rest = b""  # a line that has not ended
        self._lines: list[bytes] = []  # of a reply that has not ended
        self._code = b""  # of that reply
        self._held = 0  # bytes of these lines
        self._replies: deque[Reply] = deque()
        self._owed = 0  # replies that the server has still to give
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.lost = ""  # why nothing more can be written
        transport.set_protocol(self)
        if transport.is_closing():
            self._lose("The server hung up")

    def write(self, parts: Sequence[bytes], *, replies: int) -> None:
        """Send these bytes, for which the server owes so many replies; Lost if none can leave."""
        if self.lost:
            raise Lost(self.lost)
        self._owed += replies
        self._transport.writelines(parts)

    async def reply(self, patience: float) -> Reply:
        """The next reply; Lost where none comes, in `patience` seconds or at all.

        Whoever is cancelled here loses the connection: the reply would be taken for the next one.
        """
        if not self._replies and not self.lost:
            self._deadline = self._loop.time() + patience
            if self._timer is None:
                self._wind()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self._lose("The wait for a reply was given up")
                raise
            finally:
                self._waiter = None
        if not self._replies:
            raise Lost(self.lost)
        return self._replies.popleft()

    def agrees(self, kinds: Sequence[int]) -> bool:
        """Whether the next replies are there and have these first digits; then they are taken."""
        replies = self._replies
        if len(replies) < len(kinds):
            return False
        if any(reply.code // 100 != kind for reply, kind in zip(replies, kinds, strict=False)):
            return False
        for _ in kinds:
            replies.popleft()
        return True

    def abort(self) -> None:
        """End the connection at once."""
        self._lose("The connection was closed")

    # What asyncio calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        *lines, self._rest = (self._rest + self._buffer[:nbytes]).split(b"\n")
        for line in lines:
            problem = self._take(line)
            if problem:
                self._lose(f"{problem}: {line[:200].decode('utf-8', 'replace')}")
                return
        if self._held + len(self._rest) > _LONGEST:
            self._lose("The server's reply does not end")
        elif self._replies:
            self._wake()

    def eof_received(self) -> None:
        # At once: connection_lost comes a turn of the loop later, and a content could go between.
        self._lose("The server hung up")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(f"The connection was lost: {exc}" if exc else "The connection was lost")

    # ------------------------------------------------------------------

    def _take(self, line: bytes) -> str:
        """Note a line; what is wrong with it otherwise."""
        found = _LINE.fullmatch(line)
        if found is None:
            return "This is no reply"
        code, mark, text = found.groups(b"")
        if self._lines and code != self._code:
            return "The lines of this reply have different codes"
        if not self._owed:
            return "The server said unasked"
        self._lines.append(text)
        if mark == b"-":
            self._code = code
            self._held += len(line)
        else:
            self._replies.append(Reply(int(code), b"\n".join(self._lines)))
            self._owed -= 1
            self._lines.clear()
            self._held = 0
        return ""

    def _lose(self, why: str) -> None:
        if not self.lost:
            self.lost = why
            self._transport.abort()
            if self._timer is not None:
                self._timer.cancel()
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wind(self) -> None:
        # No later than a tick from now, so that no wait that begins meanwhile ends before.
        when = min(self._deadline, self._loop.time() + self._tick)
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._wind()
        else:
            self._lose("No reply came in time")
