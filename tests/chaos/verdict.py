"""The judgement: what was planned, what the sink accepted, and what the ledger says of it.

Lost is a digest that the sink never accepted and of which the ledger does not say `unknown`,
`failed`, `skipped` or that it waits. Sent twice is an address and slot, or an address and paper,
that the sink accepted more than once; under `resend` each attempt that ended `unknown` allows one
copy more, so a row that was never unknown is judged as strictly as under `keep`.

Unknown may be at most, for each kill, the connections open then, and one for each drop after the
dot. That is judged for each process by itself, and for all together. A drop while the content
arrives counts as one after the dot: a content is written in one go, so its dot may be on the way
when the sink hangs up, or in its memory, and the sender cannot know that it was not read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from digest.models import State
from tests.chaos.record import Accepted

Key = tuple[str, str]  # address and slot (ISO date)

WAITING = (State.PLANNED, State.CLAIMED, State.SENDING, State.DEFERRED)
STATED = (State.UNKNOWN, State.FAILED, State.SKIPPED, *WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A delivery as the ledger has it in the end."""

    state: State
    unknowns: int = 0  # attempts that ended so


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A process's attempts that ended `unknown`, and how many its kills and drops explain."""

    found: int
    allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known when a campaign is over."""

    planned: Mapping[Key, Sequence[int]]  # the papers of each digest
    ledger: Mapping[Key, Row]
    accepted: Sequence[Accepted]
    unknowns_allowed: int
    shares: Mapping[str, Share] = field(default_factory=dict)  # by process
    resend: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Counts, and a sentence for each breach."""

    states: Mapping[State, int]
    accepted: int
    lost: int
    twice: int
    unknowns: int
    unknowns_allowed: int
    breaches: Sequence[str] = field(default_factory=tuple)


def judge(evidence: Evidence) -> Verdict:
    """What the evidence says."""
    ledger = evidence.ledger
    copies = Counter((mail.address, mail.slot) for mail in evidence.accepted)
    lost = [
        key
        for key in evidence.planned
        if not copies[key] and (key not in ledger or ledger[key].state not in STATED)
    ]
    twice = [key for key, count in copies.items() if count > _copies_allowed(evidence, key)]
    rows_unknown = sum(row.state is State.UNKNOWN for row in ledger.values())
    unknowns = max(rows_unknown, sum(row.unknowns for row in ledger.values()))
    found = {
        "lost": lost,
        "sent twice": twice,
        "with a paper sent twice": list(_papers_twice(evidence)),
        "never planned, but accepted": [key for key in copies if key not in evidence.planned],
        "still waiting": [key for key, row in ledger.items() if row.state in WAITING],
        "accepted, but denied by the ledger": [
            key
            for key in copies
            if key in ledger and not _owns_up(ledger[key], resend=evidence.resend)
        ],
        "in somebody else's envelope": [
            (mail.address, mail.slot)
            for mail in evidence.accepted
            if not mail.recipient == mail.to == mail.address
        ],
        "not the same bytes each time": list(_changed(evidence.accepted)),
    }
    breaches = [_sentence(what, keys) for what, keys in found.items() if keys]
    if unknowns > evidence.unknowns_allowed:
        breaches.append(f"{unknowns} unknown, at most {evidence.unknowns_allowed} can be explained")
    breaches += [
        f"{share.found} unknown of {name}, at most {share.allowed} can be explained"
        for name, share in evidence.shares.items()
        if share.found > share.allowed
    ]
    return Verdict(
        states=Counter(row.state for row in ledger.values()),
        accepted=len(evidence.accepted),
        lost=len(lost),
        twice=len(twice),
        unknowns=unknowns,
        unknowns_allowed=evidence.unknowns_allowed,
        breaches=breaches,
    )


def _copies_allowed(evidence: Evidence, key: Key) -> int:
    again = evidence.resend and key in evidence.ledger
    return 1 + (evidence.ledger[key].unknowns if again else 0)


def _papers_twice(evidence: Evidence) -> Iterator[Key]:
    had: dict[tuple[str, int], list[Key]] = defaultdict(list)
    for mail in evidence.accepted:
        for paper in mail.papers:
            had[mail.address, paper].append((mail.address, mail.slot))
    for keys in had.values():
        allowed = 1 + sum(_copies_allowed(evidence, key) - 1 for key in set(keys))
        if len(keys) > allowed:
            yield keys[0]


def _owns_up(row: Row, *, resend: bool) -> bool:
    return row.state in (State.SENT, State.UNKNOWN) or (resend and row.unknowns > 0)


def _changed(accepted: Sequence[Accepted]) -> Iterator[Key]:
    contents: dict[Key, set[str]] = defaultdict(set)
    for mail in accepted:
        contents[mail.address, mail.slot].add(mail.hash)
    return (key for key, hashes in contents.items() if len(hashes) > 1)


def _sentence(what: str, keys: Sequence[Key]) -> str:
    shown = ", ".join(f"{address} {slot}" for address, slot in sorted(set(keys))[:5])
    return f"{len(keys)} {what}: {shown}{', ...' if len(set(keys)) > 5 else ''}"
