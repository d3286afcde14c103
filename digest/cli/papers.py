"""`digest paper`: what is known of one paper, and undoing a wrong merge."""

from __future__ import annotations

from typing import Annotated

import typer

from digest.cli.output import say, show_json, show_table
from digest.cli.setup import AsJson, services

app = typer.Typer(help="Look at one paper, or split what was merged.", no_args_is_help=True)

PaperId = Annotated[
    int,
    typer.Argument(
        metavar="ID",
        min=1,
        max=2**63 - 1,  # what a database's number holds
        help="The paper's number; `digest topic test` shows it.",
    ),
]


@app.command()
def show(paper_id: PaperId, *, as_json: AsJson = False) -> None:
    """Show a paper and the sources' records that it was made of."""
    from digest.storage import papers
    from digest.storage.database import reading

    with reading(services().engine) as connection:
        paper = papers.get(connection, paper_id)
        records = papers.records_of(connection, paper.id)
    if as_json:
        show_json({"paper": paper, "records": records})
        return
    say(paper.title)
    say(", ".join(paper.authors))
    say(paper.url)
    if paper.signals:
        say(", ".join(f"{value:,} {name}" for name, value in sorted(paper.signals.items())))
    say()
    show_table(
        ("Source", "Its id", "Kind", "Version", "Listed", "Title"),
        [
            (
                seen.record.source,
                seen.record.external_id,
                seen.record.kind,
                seen.record.version or "",
                f"{seen.record.listed_at:%Y-%m-%d}",
                seen.record.title,
            )
            for seen in records
        ],
    )


@app.command()
def split(paper_id: PaperId, *, as_json: AsJson = False) -> None:
    """Undo the newest merge that a paper was part of, and keep the two apart."""
    from digest.storage import merges
    from digest.storage.database import writing

    found = services()
    with writing(found.engine) as connection:
        other = merges.undo_merge(connection, paper_id, now=found.clock())
    if as_json:
        show_json({"papers": [paper_id, other]})
        return
    say(f"Papers {paper_id} and {other} are two again. Who had either gets neither anew.")
