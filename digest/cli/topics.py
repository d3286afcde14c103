"""`digest topic`: the filters that an admin writes and subscribers follow."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from digest.cli.output import count, say, show_json, show_table
from digest.cli.setup import AsJson, Now, services
from digest.errors import InputError

app = typer.Typer(help="The filters that subscribers can follow.", no_args_is_help=True)

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="The topic's short name.")]
Query = Annotated[
    str,
    typer.Argument(metavar="FILTER", help="A filter, e.g. 'agents AND \"tool use\" NOT survey'."),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that readers see.")],
    query: Query,
    slug: Annotated[
        str, typer.Option(metavar="SLUG", help="The short name in commands and addresses.")
    ] = "",
    *,
    as_json: AsJson = False,
) -> None:
    """Add a topic."""
    from digest.importing import one_line
    from digest.storage import topics
    from digest.storage.database import writing
    from digest.topics.language import parse

    name = one_line(name, "name", most=100)
    if not name:
        raise InputError("A topic needs a name.")
    if slug and slug != topics.slug_of(slug):
        raise InputError(f"{slug!r} is no short name. Write it as {topics.slug_of(slug)}.")
    parse(query)
    found = services()
    with writing(found.engine) as connection:
        topic = topics.add(connection, name, query, slug=slug, now=found.clock())
    if as_json:
        show_json(topic)
    else:
        say(f"Added the topic {topic.slug}. What it matches: digest topic test {topic.slug}")


@app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the topics."""
    from digest.storage import topics
    from digest.storage.database import reading

    with reading(services().engine) as connection:
        found = topics.all_topics(connection)
    if as_json:
        show_json(found)
    elif found:
        show_table(("Slug", "Name", "Filter"), [(t.slug, t.name, t.query) for t in found])
    else:
        say("There is no topic yet. See: digest topic add --help")


@app.command()
def remove(slug: Slug, *, as_json: AsJson = False) -> None:
    """Remove a topic; its followers keep their other topics."""
    from digest.storage import topics
    from digest.storage.database import writing

    with writing(services().engine) as connection:
        followers = topics.remove(connection, slug)
    if as_json:
        show_json({"removed": slug, "followers": followers})
        return
    say(f"Removed the topic {slug}, which {count(followers, 'subscriber')} followed.")


@app.command("test")
def try_(
    query: Annotated[
        str,
        typer.Argument(metavar="SLUG|FILTER", help="A topic's short name, or a filter to try."),
    ],
    days: Annotated[int, typer.Option(min=1, max=365, help="How far back to look.")] = 7,
    limit: Annotated[int, typer.Option(min=1, help="How many papers to show.")] = 20,
    *,
    now: Now = "",
    as_json: AsJson = False,
) -> None:
    """Show which stored papers a filter matches."""
    from digest.storage import papers, topics
    from digest.storage.database import reading
    from digest.topics.language import parse
    from digest.topics.match import index, match

    found = services(now)
    with reading(found.engine) as connection:
        known = {topic.slug: topic.query for topic in topics.all_topics(connection)}
        parsed = parse(known.get(query, query))
        since = found.clock() - timedelta(days=days)
        candidates = papers.candidates(connection, since=since)
    hits = [(hit, paper) for paper in candidates if (hit := match(parsed, index(paper)))]
    hits.sort(key=lambda pair: (-pair[0].strength, -pair[1].signals.get("upvotes", 0), pair[1].id))
    if as_json:
        show_json(
            {
                "query": str(parsed),
                "papers": len(candidates),
                "matches": [
                    {"id": paper.id, "title": paper.title, "strength": hit.strength}
                    for hit, paper in hits[:limit]
                ],
                "matched": len(hits),
            }
        )
        return
    if not candidates:
        say(f"No paper of the last {count(days, 'day')} is stored. See: digest collect")
        return
    papers_ = count(len(candidates), "paper")
    say(f"{len(hits):,} of {papers_} of the last {count(days, 'day')} match: {parsed}")
    if hits:
        say()
        show_table(
            ("Paper", "Votes", "Title"),
            [
                (str(paper.id), paper.signals.get("upvotes", ""), paper.title)
                for _, paper in hits[:limit]
            ],
            right=("Paper", "Votes"),
        )
