"""A server that answers each request with the bytes that a test scripted, right or wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Heard:
    """What the server got: request heads, when each came, and how many connections."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    connections: int = 0
    most_at_once: int = 0


def reply(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """A response; `length` lies about the body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@asynccontextmanager
async def serving(replies: Sequence[bytes], *, delay: float = 0.0) -> AsyncIterator[Heard]:
    """Answer request by request; the last reply repeats; an empty one breaks the connection.

    A reply whose length lies ends the connection too, or the client would wait for more.
    """
    heard = Heard()
    open_now = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        heard.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                open_now += 1
                heard.most_at_once = max(heard.most_at_once, open_now)
                heard.times.append(time.monotonic())
                heard.heads.append(head)
                content = replies[min(len(heard.heads), len(replies)) - 1]
                await asyncio.sleep(delay)
                open_now -= 1
                top, _, body = content.partition(b"\r\n\r\n")
                writer.write(content.replace(b"{url}", heard.url.encode()))
                await writer.drain()
                if not content or f"Content-Length: {len(body)}\r\n".encode() not in top + b"\r\n":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    heard.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield heard
    finally:
        server.close()
