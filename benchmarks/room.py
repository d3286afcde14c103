"""The room that a digest takes on PostgreSQL: bytes kept by table, and of the write-ahead log.

docs/scaling.md computes from these. Tables are measured with their indexes, as they are after the
mails went out: nothing is vacuumed away meanwhile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from sqlalchemy import text

from benchmarks import planning
from benchmarks.databases import absent, databases, settle, work
from benchmarks.measuring import Row
from benchmarks.population import PAPERS, house, populate
from benchmarks.sending import engine
from benchmarks.sinks import fast_sink
from digest.storage.database import open_database, reading

CONNECTIONS = 64
OF_READERS = ("subscriber", "schedule", "follow")
LEAST = 0.5  # bytes a digest; what takes less is not shown


def run(*, people: int = 20_000, papers: int = PAPERS) -> list[Row]:
    """So many readers are planned for and sent to; what grew meanwhile."""
    with (
        tempfile.TemporaryDirectory() as name,
        databases(Path(name), ["PostgreSQL"]) as creates,
        fast_sink(Path(name)) as sink,
    ):
        if "PostgreSQL" not in creates:
            return [absent("PostgreSQL")]
        folder = Path(name) / "house"
        url = creates["PostgreSQL"]("room", "")
        empty = _sizes(url)
        with house(folder, url) as services:
            populate(services, people=people, papers=papers)
        settle(url)
        steps = [(_sizes(url), work(url).log)]
        with planning.prepare(folder, url) as plan:
            digests = plan()
        steps.append((_sizes(url), work(url).log))
        sender = Path(name) / "sender"
        with engine.prepare(sender, url, sink.port, people, connections=CONNECTIONS) as deliver:
            sent = deliver().mails
        steps.append((_sizes(url), work(url).log))
    if not digests == sent == people:
        raise RuntimeError(f"{people} were to be sent: {digests} were planned, {sent} were sent.")
    (before, log), (planned, log_planned), (after, log_sent) = steps
    rows = [
        Row(
            what=f"table {table}",
            figures={
                "kept a digest": _bytes((after[table] - before[table]) / people),
                "of these planned": _bytes((planned[table] - before[table]) / people),
            },
        )
        for table in sorted(after, key=lambda one: before[one] - after[one])
        if (after[table] - before[table]) / people >= LEAST
    ]
    whole = (sum(after.values()) - sum(before.values())) / people
    rows.append(
        Row(
            what="all tables",
            figures={
                "kept a digest": _bytes(whole),
                "of these planned": _bytes((sum(planned.values()) - sum(before.values())) / people),
            },
        )
    )
    rows.append(
        Row(
            what="write-ahead log",
            figures={
                "kept a digest": _bytes((log_sent - log) / people),
                "of these planned": _bytes((log_planned - log) / people),
            },
        )
    )
    reader = sum(before[table] - empty[table] for table in OF_READERS) / people
    rows.append(
        Row(
            what=f"{people} readers, {papers} papers",
            note=f"a reader takes {_bytes(reader)}: {', '.join(OF_READERS)}",
        )
    )
    return rows


def _sizes(url: str) -> dict[str, int]:
    """Bytes of each table, its indexes and what it keeps apart."""
    opened = open_database(url)
    with reading(opened) as connection:
        found = connection.execute(
            text(
                "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
        ).all()
    opened.dispose()
    return {name: int(size) for name, size in found}


def _bytes(number: float) -> str:
    return f"{number / 1000:.2f} kB" if number >= 100 else f"{number:.0f} B"
