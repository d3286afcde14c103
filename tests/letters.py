"""Messages, and how they are handed over in tests of the delivery: one by one, or chained."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

from digest.delivery import Connection, Server
from digest.errors import DeliveryError
from digest.models import Message, Receipt
from tests.sink import Sink

ADA, BEN, CLEO = "ada@example.org", "ben@example.org", "cleo@example.org"
PLAIN = b"Subject: Hello\r\n\r\nHello.\r\n"

HOST, LATER, NEVER, UNKNOWN = "host", "later", "never", "unknown"


def blame(error: DeliveryError) -> str:
    if error.unknown:
        return UNKNOWN
    return HOST if error.host else NEVER if error.permanent else LATER


def message(recipient: str = ADA, content: bytes = PLAIN, **more: Any) -> Message:
    return Message(**{"sender": "digest@example.org"} | more, recipient=recipient, pieces=[content])


def server_of(sink: Sink, **more: Any) -> Server:
    values: dict[str, Any] = {"tls": "none", "timeout": 5.0, "final_timeout": 5.0}
    return Server(host=sink.host, port=sink.port, **values | more)


async def one_by_one(
    connection: Connection, messages: Sequence[Message]
) -> list[Receipt | DeliveryError]:
    found: list[Receipt | DeliveryError] = []
    for one in messages:
        try:
            found.append(await connection.send(one))
        except DeliveryError as error:
            found.append(error)
    return found


async def chained(
    connection: Connection, messages: Sequence[Message]
) -> list[Receipt | DeliveryError]:
    """The envelope of each message is given away with the content of the one before."""
    found: list[Receipt | DeliveryError] = []
    following: Message | None = None
    for one, after in zip(messages, [*messages[1:], None], strict=True):
        try:
            await (connection.offered() if following else connection.offer(one))
        except DeliveryError as error:
            found.append(error)
            following = None
            continue
        following = after
        try:
            found.append(await connection.hand_over(following))
        except DeliveryError as error:
            found.append(error)
    return found


def send(
    server: Server,
    *messages: Message,
    tls_context: ssl.SSLContext | None = None,
    way: Any = one_by_one,
) -> list[Receipt | DeliveryError]:
    """Hand the messages over on one Connection, one after the other; what became of each."""

    async def all_of_them() -> list[Receipt | DeliveryError]:
        async with Connection(server, tls_context=tls_context) as connection:
            found: list[Receipt | DeliveryError] = await way(connection, messages)
            return found

    return asyncio.run(all_of_them())


def verdicts(answers: Sequence[Receipt | DeliveryError]) -> list[str]:
    """ "sent", or whose fault it was."""
    return ["sent" if isinstance(answer, Receipt) else blame(answer) for answer in answers]
