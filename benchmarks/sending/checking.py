"""A run that is recorded: did each recipient get their own digest, whole, once?"""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from sqlalchemy import select

from benchmarks.population import BASE, PAGES
from benchmarks.sending import engine
from benchmarks.sending.trial import attempt
from benchmarks.sinks import plain_sink
from digest import schema
from digest.storage.database import open_database, reading

_IN_HTML = re.compile(rf'<h2[^>]*><a href="({re.escape(PAGES)}[^"]+)"')
_IN_TEXT = re.compile(rf"^ +({re.escape(PAGES)}\S+)\r?$", re.MULTILINE)
# Every link to ourselves, wherever it stands.
_OURS_IN_HTML = re.compile(rf'({re.escape(BASE)}[^"<\s]*)')
_OURS_IN_TEXT = re.compile(rf"({re.escape(BASE)}\S*)")
_MUTES = re.compile(rf"{re.escape(BASE)}/f/[\w-]+/\d+/mute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What was frozen for somebody."""

    personal: Mapping[str, str]
    pages: Sequence[str]  # of the papers, in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the recording showed."""

    mails: int
    choices: int  # different ones
    wrong: Sequence[str]  # a sentence for each fault
    content: bytes  # of the mail whose size is nearest to the average
    sizes: Mapping[str, int]  # bytes of content, by recipient

    @property
    def size(self) -> int:
        """Bytes of content, on average."""
        return mean(self.sizes.values())


def mean(sizes: Collection[int]) -> int:
    """The average, to the byte; 0 of nothing."""
    return round(sum(sizes) / max(1, len(sizes)))


def record(folder: Path, url: str, *, people: int) -> Recorded:
    """Deliver what is due to `people` in a new `folder`, and look at every mail."""
    expected = _expected(url)
    wrong = list(doubts(expected, people=people))
    kept = folder / "mails"
    kept.mkdir(parents=True)
    with plain_sink(folder=kept) as sink:
        attempt(sink, engine.prepare, folder, url, sink.port, len(expected))
    arrived: Counter[str] = Counter()
    paths = {}
    for recipient, path in mails(kept):
        arrived[recipient] += 1
        paths[recipient] = path
        wrong += faults(recipient, content_of(path), expected)
    wrong += [f"{address}: nothing came" for address in expected.keys() - arrived.keys()]
    wrong += [f"{address}: came {times} times" for address, times in arrived.items() if times > 1]
    sizes = {recipient: len(content_of(path)) for recipient, path in paths.items()}
    typical = nearest(sizes)
    return Recorded(
        mails=arrived.total(),
        choices=len({tuple(one.pages) for one in expected.values()}),
        wrong=wrong,
        content=content_of(paths[typical]) + b"\r\n",
        sizes=sizes,
    )


def mails(folder: Path) -> Iterator[tuple[str, Path]]:
    """What a mail server kept: with each mail its recipient."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            yield file.readline().rstrip(b"\n").decode(), path


def content_of(path: Path) -> bytes:
    """A kept mail without the line that names its recipient."""
    return path.read_bytes().partition(b"\n")[2]


def nearest(sizes: Mapping[str, int]) -> str:
    """Whose mail is the most like the average; any one may be a tenth larger or smaller."""
    middle = mean(sizes.values())
    return min(sizes, key=lambda recipient: abs(sizes[recipient] - middle))


def _expected(url: str) -> dict[str, Expected]:
    """By address."""
    digests, people, papers = schema.digest, schema.subscriber, schema.paper
    database = open_database(url)
    with reading(database) as connection:
        pages = dict(connection.execute(select(papers.c.id, papers.c.url)).all())
        rows = connection.execute(
            select(people.c.address, digests.c.personal, digests.c.paper_ids).join(
                digests, digests.c.subscriber_id == people.c.id
            )
        ).all()
    database.dispose()
    return {
        address: Expected(personal=personal, pages=[pages[paper_id] for paper_id in paper_ids])
        for address, personal, paper_ids in rows
    }


def doubts(expected: Mapping[str, Expected], *, people: int) -> Iterator[str]:
    """What is wrong before anything is sent: what was frozen is all that mails are held against."""
    if len(expected) != people:
        yield f"{len(expected)} of {people} people have a digest"
    for address, one in expected.items():
        if one.personal["address"] != address:
            yield f"{address}: was frozen as {one.personal['address']}"
    for name in ("unsubscribe_url", "preferences_url", "view_url", "feedback", "message_id"):
        owners = Counter(one.personal[name] for one in expected.values())
        for value, times in owners.items():
            if times > 1:
                yield f"{times} people share a {name}: {value}"


def faults(recipient: str, content: bytes, expected: Mapping[str, Expected]) -> Iterator[str]:
    """What is wrong with a mail, judged by the standard library's parser."""
    message = email.message_from_bytes(content, _class=EmailMessage, policy=email.policy.default)
    mine = expected.get(recipient)
    if mine is None:
        yield f"{recipient}: is no subscriber"
        return
    own = mine.personal
    if [(one.display_name, one.addr_spec) for one in message["To"].addresses] != [
        (own["name"], recipient)
    ]:
        yield f"{recipient}: has another's name or address in To: {message['To']}"
    headers = {
        "Subject": own["subject"],
        "Message-ID": own["message_id"],
        "List-Unsubscribe": f"<{own['unsubscribe_url']}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    for name, value in headers.items():
        if (found := message.get_all(name, [])) != [value]:
            yield f"{recipient}: has not their own {name}: {found}"
    around = [own["preferences_url"], own["unsubscribe_url"], f"{BASE}/", BASE]
    numbers = range(1, len(mine.pages) + 1)
    about = {number: f"{BASE}/f/{own['feedback']}/{number}" for number in numbers}
    acts = [f"{about[number]}/{act}" for number in numbers for act in ("more", "less", "save")]
    links = {
        "html": [own["view_url"], *acts, *around],
        "plain": [*about.values(), own["view_url"], *around],
    }
    for kind, papers, ours in (
        ("html", _IN_HTML, _OURS_IN_HTML),
        ("plain", _IN_TEXT, _OURS_IN_TEXT),
    ):
        body = message.get_body((kind,))
        words = body.get_content() if body else ""
        if papers.findall(words) != list(mine.pages):
            yield f"{recipient}: has other papers than theirs in {kind}"
        # Only papers that match a topic have one to mute.
        found = [link for link in ours.findall(words) if not _MUTES.fullmatch(link)]
        if found != links[kind]:
            yield f"{recipient}: has not their own links in {kind}"
