"""Send one test mail now, past the ledger: does the mail server take what we make?"""

from __future__ import annotations

import asyncio
from datetime import datetime
from html import escape
from uuid import uuid4

from digest.delivery import Connection, Server
from digest.message import build, freeze, message_id
from digest.models import Receipt, Site

_TEXT = """\
This is a test mail from {name}.

It was sent at {now:%Y-%m-%d %H:%M} UTC by `digest send-test`. If you read it, the mail server
takes mail from {sender}.
"""


def send_test(server: Server, address: str, *, site: Site, now: datetime) -> Receipt:
    """Send the test mail; DeliveryError with the server's words, AddressError."""
    text = _TEXT.format(name=site.name, now=now, sender=site.sender_address)
    frozen = freeze(
        site,
        name="",
        address=address,
        date=now,
        message_id=message_id("test", uuid4().hex, sender_address=site.sender_address),
    )
    message = build(
        html=f"<p>{escape(text.strip())}</p>",
        text=text,
        personal={**frozen, "subject": f"{site.name}: a test mail"},
    )

    async def send() -> Receipt:
        async with Connection(server) as connection:
            return await connection.send(message)

    return asyncio.run(send())
