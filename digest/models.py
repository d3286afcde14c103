"""The values that the stages hand to one another; they import nothing of ours.

Type names tell the side of a boundary: a Record came from a source, a Paper is ours, an Item was
chosen for somebody, a Message is rendered, a Delivery is to be done. All datetimes are aware, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, NamedTuple


class Kind(StrEnum):
    """What a source announced: arXiv tells these apart, everything else is NEW."""

    NEW = "new"
    CROSS = "cross"
    REPLACE = "replace"
    WITHDRAWN = "withdrawn"


class Health(StrEnum):
    """How a read of a source ended."""

    OK = "ok"
    UNCHANGED = "unchanged"
    STALE = "stale"
    HALF_FILLED = "half-filled"
    EMPTY_BY_CALENDAR = "empty-by-calendar"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def good(self) -> bool:
        """Whether the answer says all that the source has to say."""
        return self in (Health.OK, Health.UNCHANGED, Health.EMPTY_BY_CALENDAR)


class Frequency(StrEnum):
    DAILY = "daily"
    WEEKDAYS = "weekdays"
    WEEKLY = "weekly"


class Detail(StrEnum):
    """How much a card says of its paper."""

    SUMMARY = "summary"
    FULL = "full"  # the whole abstract


class QuietDay(StrEnum):
    """What comes when nothing reaches the minimum."""

    SKIP = "skip"  # no mail
    SEND = "send"  # the best that there are, few


class InterestKind(StrEnum):
    """What somebody may follow, name as an example, or never want to see."""

    AUTHOR = "author"
    LAB = "lab"
    SEED = "seed"
    MUTED_WORD = "muted_word"
    MUTED_TOPIC = "muted_topic"


class Action(StrEnum):
    """What somebody may say of a paper."""

    MORE = "more"
    LESS = "less"
    SAVE = "save"


class Status(StrEnum):
    """A subscriber's standing; only ACTIVE is written to."""

    PENDING = "pending"
    ACTIVE = "active"
    PAUSED = "paused"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    ERASED = "erased"


class State(StrEnum):
    """A delivery's state (design: the ledger)."""

    PLANNED = "planned"
    CLAIMED = "claimed"
    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one source said about one work at one time; text is cleaned, `raw` is as received."""

    source: str  # huggingface | arxiv | feed:<slug>
    external_id: str  # the source's own name for it, without a version
    title: str
    url: str  # http(s): the source's page for it
    listed_at: datetime  # when the source listed it
    kind: Kind = Kind.NEW
    abstract: str = ""
    summary: str = ""  # one sentence, where the source has one
    authors: tuple[str, ...] = ()
    published_at: datetime | None = None
    arxiv_id: str | None = None  # canonical: no version, lower case
    doi: str | None = None  # canonical: lower case, no prefix; never arXiv's own 10.48550
    version: int | None = None
    organisation: str = ""
    venue: str = ""
    comment: str = ""
    keywords: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()  # primary first
    links: Mapping[str, str] = field(default_factory=dict)  # pdf html code project thumbnail ...
    signals: Mapping[str, int] = field(default_factory=dict)  # upvotes comments stars
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """One read of one source: the records, how it went, and what to remember for the next read."""

    source: str
    health: Health
    reason: str = ""  # one sentence for a person; empty when ok
    records: tuple[Record, ...] = ()
    state: Mapping[str, Any] | None = None  # JSON; None keeps what was remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One count of one paper in one source, and what it was a day before."""

    source: str
    day: date  # the day on which the source listed the paper, UTC
    name: str  # upvotes | comments | stars
    value: int
    gain: int = 0  # since the reference time asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """One work, whatever number of sources and versions it came from."""

    id: int
    title: str
    url: str
    abstract: str = ""
    summary: str = ""
    authors: tuple[str, ...] = ()
    organisation: str = ""
    venue: str = ""
    comment: str = ""
    keywords: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    signals: Mapping[str, int] = field(default_factory=dict)  # newest value, maximum over sources
    arxiv_id: str | None = None
    doi: str | None = None
    published_at: datetime | None = None
    listed_at: datetime | None = None  # newest listing by any source
    first_seen_at: datetime | None = None
    fresh_at: datetime | None = None  # a candidate since; None: stored, never mailed
    withdrawn: bool = False

    @property
    def name(self) -> str:
        """What its page is called: its arXiv id, else our own number."""
        return self.arxiv_id or str(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A named filter that an admin writes and a subscriber can follow."""

    id: int
    slug: str
    name: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a subscriber's digest is due, from `since` until the next Schedule begins."""

    since: datetime
    zone: str  # IANA
    hour: int  # 0..23, local
    frequency: Frequency
    weekday: int | None = None  # 0 Monday .. 6 Sunday; weekly only
    active: bool = True
    welcome: bool = False  # it begins with a digest at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The local date on which a digest is due, and the instant."""

    date: date
    due_at: datetime
    schedule: Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a subscriber can choose."""

    zone: str  # IANA
    hour: int  # 0..23, local
    frequency: Frequency
    max_papers: int
    weekday: int | None = None
    name: str = ""
    locale: str = "en"
    min_score: float | None = None  # 0..1; None: the house's
    detail: Detail = Detail.SUMMARY
    quiet_day: QuietDay = QuietDay.SKIP
    plain: bool = False  # mails without HTML


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """Something that somebody follows, named as an example, or muted."""

    kind: InterestKind
    value: str  # as typed
    key: str  # what it is found by: equal keys are one interest


@dataclass(frozen=True, slots=True, kw_only=True)
class Interests:
    """All that one person said of what they want to read, beside the topics that they follow."""

    kept: tuple[Interest, ...] = ()
    searches: tuple[str, ...] = ()  # filters in their canonical form
    more: tuple[int, ...] = ()  # papers, the newest opinion first
    less: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What somebody said of a paper, and in which digest they met it."""

    paper_id: int  # the paper as it is now, whatever it was merged into since
    action: Action
    title: str
    url: str
    given_at: datetime
    digest_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Somebody to be stored: an address that was checked, its keys, and what they wish."""

    address: str  # as typed
    key: str
    hashes: tuple[str, ...]  # keyed, the newest secret's first
    wishes: Wishes
    topics: tuple[str, ...] = ()  # slugs that exist


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    id: int
    address: str  # as typed
    name: str
    zone: str
    hour: int
    frequency: Frequency
    weekday: int | None
    max_papers: int
    status: Status
    created_at: datetime
    confirmed_at: datetime | None = None
    locale: str = "en"
    paused_until: datetime | None = None
    generation: int = 0  # of the links in their mails
    min_score: float | None = None
    detail: Detail = Detail.SUMMARY
    quiet_day: QuietDay = QuietDay.SKIP
    plain: bool = False
    topics: tuple[str, ...] = ()  # slugs


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """Somebody is to be left alone: what the journal keeps of it, which is no address."""

    at: datetime
    kind: Status  # unsubscribed | complained | erased
    hashes: tuple[str, ...]  # keyed, of one address: one for each secret


class Reason(NamedTuple):
    """Why a paper was chosen, as data: `topic, agents`; `votes, 163, 40`. Never a sentence."""

    kind: str
    args: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A run of a paper's text that a filter matched: offsets into `getattr(paper, field)`."""

    field: str  # title | abstract | summary
    start: int
    end: int


class Item(NamedTuple):
    """One chosen paper: as a card, or as one line under "also today"."""

    paper_id: int
    score: float
    reasons: tuple[Reason, ...]
    card: bool = True


class Choice(NamedTuple):
    """What was decided for one subscriber and slot; without items, `reason` says why."""

    items: tuple[Item, ...] = ()
    candidates: int = 0  # how many new papers were considered
    reason: str = ""  # quiet | weekend | sources | outage | ... ; empty when items are sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A skeleton or a card, addressed by the SHA-256 of what it was made from (hexadecimal)."""

    hash: str
    kind: str  # skeleton | card
    html: bytes  # UTF-8
    text: bytes  # UTF-8
    head: bytes = b""  # of a skeleton: the envelope's sender and the headers, UTF-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Whose mail it is: the name on it, and what its headers and foot say."""

    name: str
    base_url: str  # http(s), no slash at the end
    sender_address: str
    list_id: str  # RFC 2919: a dot-atom, the same for ever
    tagline: str = ""
    sender_name: str = ""  # the site's name when empty
    reply_to: str = ""
    postal_address: str = ""
    imprint_url: str = ""
    joinable: bool = True  # people can subscribe, and a mail that was passed on says where
    sample: bool = False  # some of the papers are invented, and the mail says so


class Message(NamedTuple):
    """A rendered mail, ready for the mail server."""

    sender: str  # envelope
    recipient: str  # envelope
    pieces: Sequence[bytes]  # RFC 5322, CRLF; put together on the way, for copying takes time
    seven_bit: bool = False  # known to be ASCII, for looking takes time too

    @property
    def content(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


class Receipt(NamedTuple):
    """The mail server's acceptance, in its own words."""

    code: int
    text: str
    relay: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that may go one way, over all workers; None: as much as there is."""

    connections: int | None = None
    rate: float | None = None  # messages a second
    daily: int | None = None  # messages a day, UTC
    messages: int | None = None  # on one connection
