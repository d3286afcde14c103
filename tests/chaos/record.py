"""What the sink wrote down, read while it writes."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One mail that the sink took charge of."""

    at: float  # monotonic seconds
    connection: int
    recipient: str  # of the envelope
    to: str  # of the header
    address: str  # this, the slot and the papers as the text says
    slot: str
    papers: tuple[int, ...]
    hash: str


@dataclass(slots=True)
class Visit:
    """One connection, as the sink saw it."""

    opened: float
    name: str = ""  # what the client said EHLO with
    closed: float | None = None


@dataclass(slots=True)
class Record:
    """The sink's file; `follow` reads what came since."""

    path: Path
    accepted: list[Accepted] = field(default_factory=list)
    visits: dict[int, Visit] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    doubtful: list[int] = field(default_factory=list)  # connections; see `doubts`
    _read: int = 0

    def follow(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written
                self._read += len(line)
                self._add(json.loads(line))

    def _add(self, entry: dict[str, object]) -> None:
        match entry:
            case {"kind": "open", "connection": int(number), "at": float(at)}:
                self.visits[number] = Visit(at)
            case {"kind": "hello", "connection": int(number), "name": str(name)}:
                self.visits[number].name = name
            case {"kind": "close", "connection": int(number), "at": float(at)}:
                self.visits[number].closed = at
            case {
                "kind": "fault",
                "what": str(what),
                "doubt": bool(doubt),
                "connection": int(number),
            }:
                self.faults[what] += 1
                self.doubtful += [number] * doubt
            case {"kind": "accepted", "papers": list(papers), **mail}:
                self.accepted.append(Accepted(papers=tuple(papers), **mail))  # type: ignore[arg-type] # as Conversation._keep writes it
            case _:
                raise ValueError(f"the sink wrote {entry}")

    @property
    def doubts(self) -> int:
        """Faults after which nobody can tell whether the content was kept."""
        return len(self.doubtful)

    def open_between(self, start: float, end: float, name: str) -> Counter[str]:
        """How many connections of a process, and of those it started, were open between them.

        A connection that had not said EHLO had carried nothing.
        """
        return Counter(
            visit.name
            for visit in self.visits.values()
            if visit.name.endswith(name)
            and visit.opened <= end
            and (visit.closed is None or visit.closed >= start)
        )

    def name_of(self, mail: Accepted) -> str:
        """Who brought it."""
        return self.visits[mail.connection].name

    def busiest(self, seconds: float) -> int:
        """The most that was accepted in any window of so many seconds."""
        window: deque[float] = deque()
        most = 0
        for at in sorted(mail.at for mail in self.accepted):
            window.append(at)
            while window[0] <= at - seconds:
                window.popleft()
            most = max(most, len(window))
        return most
