"""Who asks: the client's address, from what proxies of ours say and nobody else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_PORT = re.compile(r"\[([^\[\]]*)\](?::\d*)?|([^:]*):\d+")  # [::1]:80, [::1] and 192.0.2.1:80


def client_address(
    peer: str, forwarded: Sequence[str], trusted: Sequence[IPv4Network | IPv6Network]
) -> IPv4Address | IPv6Address:
    """Who is at the other end: `peer`, or whom it forwards for if it is one of ours.

    `forwarded` are the values of all X-Forwarded-For headers, in order. Each proxy adds at the end
    whom it got the request from, so the list is read from there, as long as who added an entry is
    trusted; what is before that anybody may have written. Raises ValueError for a peer that is no
    address.
    """
    found = _address(peer)
    if found is None:
        raise ValueError(f"{peer!r} is no address")
    for hop in reversed([hop for value in forwarded for hop in value.split(",")]):
        if not any(found in network for network in trusted):
            break
        before = _address(hop.strip())
        if before is None:
            break
        found = before
    return found


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, the same however it is written; None if it is none."""
    if port := _PORT.fullmatch(text):
        text = port[1] or port[2]
    try:
        found = ip_address(text.partition("%")[0])  # a zone is this machine's own word
    except ValueError:
        return None
    return (found.version == 6 and found.ipv4_mapped) or found
