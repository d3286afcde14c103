"""A name server on this machine that knows what a test tells it, and counts what it is asked."""

from __future__ import annotations

import socketserver
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import dns.message
import dns.rcode
import pytest
from dns.rdatatype import MX, A
from dns.resolver import Resolver
from dns.rrset import from_text


class Trouble(Enum):
    """What a name server may do instead of answering."""

    NO_SUCH_NAME = dns.rcode.NXDOMAIN
    FAILURE = dns.rcode.SERVFAIL
    SILENCE = None


@dataclass(slots=True)
class DnsServer:
    """Hosts that take mail, by domain, as `10 mx.example.org.`; of others there is no such name."""

    port: int = 0
    mx: dict[str, Sequence[str] | Trouble] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)  # that have an address
    all_silent: bool = False
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def resolver(self) -> Resolver:
        """What asks it, and nobody else."""
        found = Resolver(configure=False)
        found.nameservers, found.port = ["127.0.0.1"], self.port
        return found

    def answer(self, packet: bytes) -> bytes:
        """What it says to a question; nothing to those that it leaves without an answer."""
        query = dns.message.from_wire(packet)
        [question] = query.question
        name = question.name.to_text().rstrip(".")
        self.asked[name] += 1
        known = self.mx.get(name, Trouble.NO_SUCH_NAME)
        if self.all_silent or known is Trouble.SILENCE:
            return b""
        response = dns.message.make_response(query)
        if isinstance(known, Trouble):
            response.set_rcode(known.value)
        elif question.rdtype == A and name in self.hosts:
            response.answer.append(from_text(question.name, 60, "IN", "A", "192.0.2.1"))
        elif known and question.rdtype == MX:
            response.answer.append(from_text(question.name, 60, "IN", "MX", *known))
        return response.to_wire()


@pytest.fixture
def dns_server() -> Iterator[DnsServer]:
    found = DnsServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            packet, connection = self.request
            if answer := found.answer(packet):
                connection.sendto(answer, self.client_address)

    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()
