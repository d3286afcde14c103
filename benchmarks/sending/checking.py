"""A run that is recorded: did each recipient get their own digest, whole, once?"""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from sqlalchemy import select

from benchmarks.population import PAGES
from benchmarks.sending import engine
from benchmarks.sending.trial import attempt
from benchmarks.sinks import plain_sink
from digest import schema
from digest.storage.database import open_database, reading

_IN_HTML = re.compile(rf'<h2[^>]*><a href="({re.escape(PAGES)}[^"]+)"')
_IN_TEXT = re.compile(rf"^ +({re.escape(PAGES)}\S+)\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was frozen for somebody."""

    name: str
    pages: Sequence[str]  # of the papers, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the recording showed."""

    mails: int
    choices: int  # different ones
    wrong: Sequence[str]  # a sentence for each mail that was not as it should be
    content: bytes  # of one mail
    size: int  # bytes of content, on average


def record(folder: Path, url: str) -> Recorded:
    """Deliver all that is due in a new `folder`, and look at every mail."""
    mails = folder / "mails"
    mails.mkdir(parents=True)
    expected = _expected(url)
    with plain_sink(folder=mails) as sink:
        attempt(sink, engine.prepare, folder, url, sink.port)
    arrived: Counter[str] = Counter()
    wrong: list[str] = []
    sizes, content = [], b""
    for path in mails.iterdir():
        recipient, _, content = path.read_bytes().partition(b"\n")
        arrived[recipient.decode()] += 1
        sizes.append(len(content))
        wrong += faults(recipient.decode(), content, expected)
    wrong += [f"{address}: nothing came" for address in expected.keys() - arrived.keys()]
    wrong += [f"{address}: came {times} times" for address, times in arrived.items() if times > 1]
    return Recorded(
        mails=len(sizes),
        choices=len({tuple(one.pages) for one in expected.values()}),
        wrong=wrong,
        content=content + b"\r\n",
        size=sum(sizes) // max(1, len(sizes)),
    )


def _expected(url: str) -> dict[str, Expected]:
    """By address."""
    digests, people, papers = schema.digest, schema.subscriber, schema.paper
    database = open_database(url)
    with reading(database) as connection:
        pages = dict(connection.execute(select(papers.c.id, papers.c.url)).all())
        rows = connection.execute(
            select(people.c.address, people.c.name, digests.c.paper_ids).join(
                digests, digests.c.subscriber_id == people.c.id
            )
        ).all()
    database.dispose()
    return {
        address: Expected(name=name, pages=[pages[paper_id] for paper_id in paper_ids])
        for address, name, paper_ids in rows
    }


def faults(recipient: str, content: bytes, expected: dict[str, Expected]) -> Iterator[str]:
    """What is wrong with a mail, judged by the standard library's parser."""
    message = email.message_from_bytes(content, _class=EmailMessage, policy=email.policy.default)
    mine = expected.get(recipient)
    if mine is None:
        yield f"{recipient}: is no subscriber"
        return
    if [(one.display_name, one.addr_spec) for one in message["To"].addresses] != [
        (mine.name, recipient)
    ]:
        yield f"{recipient}: has another's name or address in To: {message['To']}"
    for kind, pattern in (("html", _IN_HTML), ("plain", _IN_TEXT)):
        body = message.get_body((kind,))
        found = pattern.findall(body.get_content()) if body else []
        if found != list(mine.pages):
            yield f"{recipient}: has other papers than theirs in {kind}"
