"""How well the title rule tells one work from two: DBLP-ACM and DBLP-Scholar, labelled pairs.

Every pair is judged as storage would: the rule's keys of both sides, and whether they share one.
The baseline, in the same run, is the equality of the normalised titles.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measuring import Row
from benchmarks.surroundings import SHARED
from digest.models import Record
from digest.papers.identity import title_identifiers

DATA = SHARED / "data" / "dedupe"

Pair = Mapping[str, Any]
Rule = Callable[[Pair], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Counts over labelled pairs, and what follows from them."""

    found: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        return self.found / ((self.found + self.false) or 1)

    @property
    def recall(self) -> float:
        return self.found / ((self.found + self.missed) or 1)

    @property
    def f1(self) -> float:
        return 2 * self.found / ((2 * self.found + self.false + self.missed) or 1)


def score(rows: Iterable[Pair], rule: Rule) -> Score:
    """How `rule` does on the labelled pairs."""
    found = false = missed = 0
    for row in rows:
        same, said = row["label"] in ("1", 1, True), rule(row)
        found += said and same
        false += said and not same
        missed += same and not said
    return Score(found=found, false=false, missed=missed)


def pairs(folder: Path) -> list[Pair]:
    """All labelled pairs of a data set."""
    return [row for path in sorted(folder.glob("tailormatch_*")) for row in _rows(path)]


def _rows(path: Path) -> Iterator[Pair]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    else:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)


def _record(row: Pair, side: str) -> Record:
    year = _year(row, side)
    # The middle of the year: only the year is known. Year 1 is a year that no other side has.
    published = datetime(year or (1 if side == "left" else 9000), 7, 1, tzinfo=UTC)
    authors = re.split(r"\s*,\s*", row.get(f"authors_{side}") or "")
    return Record(
        source="feed:benchmark",
        external_id=str(row[f"id_{side}"]),
        title=row[f"title_{side}"] or "",
        url="",
        listed_at=published,
        published_at=published,
        authors=tuple(author for author in authors if author),
    )


def _year(row: Pair, side: str) -> int:
    return int(float(row.get(f"year_{side}") or 0))


def title_rule(row: Pair) -> bool:
    """Whether the sides share a title key."""
    left, right = (set(title_identifiers(_record(row, side))) for side in ("left", "right"))
    return not left.isdisjoint(right)


def same_title(row: Pair) -> bool:
    """The baseline: the same letters and digits, whoever wrote them and when."""
    left, right = (
        re.sub(r"[\W_]+", "", (row[f"title_{side}"] or "").casefold()) for side in ("left", "right")
    )
    return left == right


def run(*, most: int | None = None) -> list[Row]:
    """Both data sets, all pairs and those with both years; `most` pairs of each."""
    if not DATA.is_dir():
        return [Row(what="labelled pairs", skipped=True, note=f"are not here: {DATA}")]
    rows = []
    for name in ("dblp-acm", "dblp-scholar"):
        every = pairs(DATA / name)[:most]
        dated = [row for row in every if _year(row, "left") and _year(row, "right")]
        for label, chosen in ((name, every), (f"{name}, both years known", dated)):
            for title, rule in (("same title", same_title), ("title keys", title_rule)):
                result = score(chosen, rule)
                figures = {
                    "pairs": f"{len(chosen)}",
                    "precision": f"{result.precision:.4f}",
                    "recall": f"{result.recall:.3f}",
                    "F1": f"{result.f1:.3f}",
                    "false": f"{result.false}",
                }
                rows.append(Row(what=f"{label}: {title}", figures=figures))
    return rows
