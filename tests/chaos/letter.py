"""What a mail says of itself: to whom, for which date, with which papers; from its text alone."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

SOFT_BREAK = b"=\r\n"  # RFC 2045 section 6.7
# What the harness writes into the digests that it plans by itself.
OURS = re.compile(rb"Slot (\d{4}-\d\d-\d\d) of (\S+), papers ([\d ]+)\.")
TO = re.compile(rb"^To: [^\r]*?<([^>]+)>", re.MULTILINE)
DATE_LINE = re.compile(r"^\w+day, (\d{1,2} \w+ \d{4})$", re.MULTILINE)
LINK = re.compile(r"https://arxiv\.org/abs/\d{4}\.(\d{5})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Empty where a mail does not say it."""

    to: str = ""  # of the header
    address: str = ""
    slot: str = ""  # ISO date
    papers: Sequence[int] = ()


def read(content: bytes) -> Letter:
    """A content as it came over the wire."""
    found = OURS.search(content.replace(SOFT_BREAK, b""))
    return _real(content) if found is None else _ours(content, found)


def _ours(content: bytes, found: re.Match[bytes]) -> Letter:
    to = TO.search(content)
    return Letter(
        to=to[1].decode() if to else "",
        address=found[2].decode(),
        slot=found[1].decode(),
        papers=[int(paper) for paper in found[3].split()],
    )


def _real(content: bytes) -> Letter:
    """A digest of the product: the line with its date, and the links of its papers."""
    mail = email.message_from_bytes(content, policy=email.policy.default)
    body, to = mail.get_body(("plain",)), mail["To"]
    text = str(body.get_content()).replace("\xa0", " ").replace("\r\n", "\n") if body else ""
    line = DATE_LINE.search(text)
    address = to.addresses[0].addr_spec if to else ""
    return Letter(
        to=address,
        address=address,
        slot=datetime.strptime(line[1], "%d %B %Y").date().isoformat() if line else "",  # noqa: DTZ007 -- a date
        papers=sorted({int(number) for number in LINK.findall(text)}),
    )
