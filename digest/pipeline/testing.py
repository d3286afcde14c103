"""Send one test mail now, past the ledger: does the mail server take what we make?"""

from __future__ import annotations

import asyncio
from datetime import datetime
from html import escape
from uuid import uuid4

from digest.delivery import Connection, Server
from digest.locales import language
from digest.message import freeze, head, message_id
from digest.models import Part, Receipt, Site
from digest.rendering import assemble
from digest.rendering.prose import wrap


def send_test(server: Server, address: str, *, site: Site, locale: str, now: datetime) -> Receipt:
    """Send the test mail; DeliveryError with the server's words, AddressError."""
    words = language(locale)
    values = {
        "name": site.name,
        "time": f"{now:%Y-%m-%d %H:%M} UTC",
        "sender": site.sender_address,
    }
    paragraphs = [
        words.gettext("This is a test email from %(name)s.") % values,
        words.gettext(
            "It was sent at %(time)s by digest send-test. If you are reading it, the mail server"
            " accepts mail from %(sender)s."
        )
        % values,
    ]
    body = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
    frozen = freeze(
        name="",
        address=address,
        date=now,
        message_id=message_id("test", uuid4().hex, sender_address=site.sender_address),
    )
    page = f'<!DOCTYPE html><html lang="{words.tag}" dir="{words.direction}">{body}</html>\n'
    skeleton = Part(
        hash="test",
        kind="skeleton",
        head=head(site),
        html=page.encode(),
        text="\n\n".join(map(wrap, paragraphs)).encode(),
    )
    subject = words.gettext("%(name)s: a test email") % values
    message = assemble({**frozen, "subject": subject}, skeleton, [])

    async def send() -> Receipt:
        async with Connection(server) as connection:
            return await connection.send(message)

    return asyncio.run(send())
