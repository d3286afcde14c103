"""Where a request comes from: what only this machine may see must not be fetched from elsewhere."""

from __future__ import annotations

import re
from ipaddress import ip_address

from starlette.requests import Request

_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)


def from_here(request: Request) -> bool:
    """Whether a program on this machine asks, for itself and under this machine's name.

    A page elsewhere can make a browser here ask under a name of its own (DNS rebinding), and a
    proxy can carry a request outside: the first shows in Host, the second in what proxies add.
    """
    hosts = request.headers.getlist("host")
    forwarded = any(
        name == "forwarded" or name.startswith("x-forwarded-") for name in request.headers
    )
    return (
        request.client is not None
        and ip_address(request.client.host).is_loopback
        and len(hosts) == 1
        and _LOCAL_HOST.fullmatch(hosts[0]) is not None
        and not forwarded
    )
