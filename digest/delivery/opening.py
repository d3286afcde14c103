"""Connecting, securing and logging in, by aiosmtplib; what follows is the wire's."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Mapping
from typing import cast

import aiosmtplib

from digest.delivery.replies import words
from digest.delivery.server import Server
from digest.delivery.wire import Wire
from digest.errors import DeliveryError


async def reach(
    server: Server, tls_context: ssl.SSLContext | None
) -> tuple[Wire, Mapping[str, str]]:
    """A wire to the server, and its extensions: lower case, with what it said of each.

    DeliveryError(host=True) when the server cannot be used.
    """
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.user or None,
        password=server.password or None,
        use_tls=server.tls == "tls",
        start_tls=server.tls == "starttls",
        timeout=server.timeout,
    )
    try:
        # Both are slow, and the same for all connections.
        client.local_hostname = await asyncio.to_thread(_our_name)
        if server.tls != "none":
            client.tls_context = tls_context or await asyncio.to_thread(_trusted)
        await client.connect()
        # What the server can do is known only now, or, after STARTTLS, anew.
        await client._ehlo_or_helo_if_needed()
    except aiosmtplib.SMTPResponseException as error:
        client.close()
        code = error.code if error.code > 0 else None  # -1 stands for words that are no reply
        raise DeliveryError(words(error.message), code=code, host=True) from error
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        client.close()
        raise DeliveryError(f"{server.name} cannot be used: {_why(error)}", host=True) from error
    except BaseException:
        client.close()
        raise
    transport = cast("asyncio.Transport", client.transport)
    tick = min(server.data_timeout, server.final_timeout)
    return Wire(transport, tick=tick), client.esmtp_extensions


@functools.cache
def _our_name() -> str:
    return socket.getfqdn()


@functools.cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def _why(error: Exception) -> str:
    for cause in (error, error.__cause__):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not to be trusted: {cause.verify_message}"
    return words(str(error))
