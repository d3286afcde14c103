"""Who asks: what a proxy of ours says is believed, what anybody may write is not."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.web.client import client_address

PROXIES = [ip_network(one) for one in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "2001:db8:f::/48")]
PROXY = "10.0.0.1"

CASES = {
    "nobody forwards": (PROXY, [], PROXY),
    "a client without a proxy": ("192.0.2.1", [], "192.0.2.1"),
    "a stranger forwards": ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
    "a proxy forwards": (PROXY, ["198.51.100.7"], "198.51.100.7"),
    "the client wrote something before": (PROXY, ["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
    "two proxies": (PROXY, ["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
    "two proxies, and a lie": (PROXY, ["10.0.0.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
    "several headers": (PROXY, ["1.1.1.1", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
    "only proxies": (PROXY, ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    "IPv6": ("::1", ["2001:db8::7"], "2001:db8::7"),
    "IPv6 proxies": ("::1", ["2001:db8::7, 2001:db8:f::1"], "2001:db8::7"),
    "a mapped peer": ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
    "a mapped client": (PROXY, ["::ffff:198.51.100.7"], "198.51.100.7"),
    "a port": (PROXY, ["198.51.100.7:51234"], "198.51.100.7"),
    "IPv6 in brackets": (PROXY, ["[2001:db8::7]:443"], "2001:db8::7"),
    "IPv6 in brackets alone": (PROXY, ["[2001:db8::7]"], "2001:db8::7"),
    "a zone": (PROXY, ["fe80::1%eth0"], "fe80::1"),
    "unknown": (PROXY, ["unknown"], PROXY),
    "an obfuscated name": (PROXY, ["198.51.100.7, _hidden"], PROXY),
    "empty": (PROXY, [""], PROXY),
    "commas": (PROXY, [",,,"], PROXY),
    "no address": (PROXY, ["1.2.3, 999.1.1.1"], PROXY),
    "SQL": (PROXY, ["'; DROP TABLE quota; --"], PROXY),
    "a newline": (PROXY, ["198.51.100.7\r\nX: 1"], PROXY),
    "octal": (PROXY, ["0177.0.0.1"], PROXY),
    "a number": (PROXY, ["3232235777"], PROXY),
    "blanks": (PROXY, ["  198.51.100.7  ,\t10.0.0.2 "], "198.51.100.7"),
    "a long list": (PROXY, [", ".join(["10.0.0.2"] * 10_000)], "10.0.0.2"),
}


@pytest.mark.parametrize(("peer", "forwarded", "client"), CASES.values(), ids=CASES)
def test_who_asks(peer: str, forwarded: list[str], client: str) -> None:
    assert client_address(peer, forwarded, PROXIES) == ip_address(client)


@given(forwarded=st.lists(st.text(max_size=60), max_size=4))
def test_a_stranger_is_never_somebody_else(forwarded: list[str]) -> None:
    assert client_address("192.0.2.1", forwarded, PROXIES) == ip_address("192.0.2.1")
    assert client_address(PROXY, forwarded, []) == ip_address(PROXY)


@given(written=st.lists(st.text(max_size=60), max_size=4), client=st.ip_addresses())
def test_what_the_client_wrote_changes_nothing(written: list[str], client: object) -> None:
    """A proxy puts whom it sees at the end."""
    seen = client_address(PROXY, [str(client)], PROXIES)
    if not any(seen in network for network in PROXIES):
        assert client_address(PROXY, [*written, str(client)], PROXIES) == seen


def test_a_peer_that_is_none() -> None:
    with pytest.raises(ValueError, match="no address"):
        client_address("testclient", [], PROXIES)
