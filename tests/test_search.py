"""Search finds what a topic with the same filter matches, on both databases, whatever the words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from alembic.command import upgrade as alembic_upgrade
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, MetaData, delete, insert, select, text

from digest import schema
from digest.errors import NotFound, TopicSyntaxError
from digest.models import Fetch, Health, Kind, Paper, Record
from digest.storage import fulltext, index, merges, migrating, suggestions
from digest.storage import papers as shelves
from digest.storage import search as searching
from digest.storage.database import open_database, reading, writing
from digest.storage.index import id_at
from digest.storage.matches import matching
from digest.storage.search import Order, search
from digest.storage.similar import similar
from digest.storage.suggestions import suggest
from digest.topics.language import MAX_DEPTH, parse
from digest.topics.match import Document, match
from tests.databases import make_older, new_database
from tests.shelf import DAY, NOW, documents, live, matched, said, store, trial

Make: TypeAlias = Callable[..., Engine]
Shelf: TypeAlias = tuple[Connection, list[tuple[Paper, Document]]]
LONG = "q" * 300
PAPERS = (
    said(
        "plain", "Large Language Models for Multi-Agent Planning", abstract="We plan with agents."
    ),
    said("odd", "C++, C# and .NET: don't use <b>NOT</b>", abstract="Erdős M² ½ \"x\\y\" 'z' 100%"),
    said("cjk", "大型语言模型 and トランスフォーマー", abstract="한국어 ٣ مرحبا नमस्ते ß ŉ Ⅷ"),
    said("near", "Large models of language", keywords=("neural network", "graph theory")),
    said("lists", "Lists", keywords=("deep neural", "network graph"), authors=("Ada Li", "Bo Lee")),
    said("lee", "Other names", authors=("Li Bo", "Lee Ada", "Chris Agents")),
    said("org", "Where", organisation="Lab of Graph-Models (C++)", abstract="models"),
    said("summed", "Summed", summary="Agents plan; language models.", abstract="Nothing else"),
    said("cats", "Named", categories=("cs.LG", "math.AG", "a b'c\\", "x..y:z", "é.ü", LONG + ".a")),
    said("kin", "Named too", categories=("cs", "csx.LG", "CS.cl", LONG + ".b"), source="feed:o'x"),
    said("counts", "Counted", signals={"upvotes": 10, "stars": 0}, links={"code": "https://c"}),
    said("votes", "Counted models", signals={"upvotes": -3, "comments": 2_100_000_000}),
    said("begins", "Cats sought sources", abstract="Five cats cast.", categories=("q.a",)),
    said("often", "Often", abstract="alpha beta " * 300 + "gamma alpha omega"),
    said("endless", "Endless", abstract="語" * 17_000 + "far away gamma delta"),
    said("one", f"One {LONG}one", abstract=f"{LONG} {LONG}"),
    said("two", f"Two {LONG}two", keywords=(f"{LONG}two {LONG}",)),
    said("gone", "Withdrawn models", kind=Kind.WITHDRAWN),
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def make(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Make]:
    """Makes a database of one kind, with papers in it."""
    with ExitStack() as stack:

        def made(*found: Record) -> Engine:
            if request.param == "sqlite":
                engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('search')}/digest.db")
                migrating.upgrade(engine)
            else:
                engine = open_database(new_database(request.getfixturevalue("postgres_url")))
            stack.callback(engine.dispose)
            with writing(engine) as connection:
                store(connection, *found)
            return engine

        yield made


@pytest.fixture(scope="module")
def empty(make: Make) -> Engine:
    """For tests each of which takes back what it did."""
    return make()


@pytest.fixture(scope="module")
def shelf(make: Make) -> Iterator[Shelf]:
    """The papers, for tests that only read."""
    with reading(make(*PAPERS)) as connection:
        yield connection, documents(connection)


def ids(connection: Connection, query: str, *, order: Order = Order.DATE) -> list[int]:
    return [paper.id for paper in search(connection, parse(query), order=order).papers]


def titles(connection: Connection, query: str) -> list[str]:
    return [paper.title for paper in search(connection, parse(query)).papers]


QUERIES = [
    *("models", "agents", '"language models"', '"large language"', "multi-agent", "multi -agent"),
    *("C++", "C#", ".NET", "C", "net", "title:C++", "org:C++", '"NOT"', "don't", '"NOT b"', "100"),
    *("erdos", "Erdős", "m2", "x", '"x y"', "z", "大型", "语言", '"语言模型"', "大言", "トランス"),
    *("トランスフ", "한국어", "한국*", "٣", "مرحبا", "नमस्ते", "ss", "viii", "n"),
    *('"neural network"', '"network graph"', 'keyword:"neural network"', '"deep neural network"'),
    *('keyword:"neural net*"', "keyword:graph", "keyword:gra*", 'title:"models of"', "title:mod*"),
    *('author:"Ada Li"', 'author:"Li Bo"', 'author:"Li B*"', "author:lee", "author:agents", "li"),
    *("author:agent", 'org:"graph models"', "org:mod*", "abstract:models", "abstract:language"),
    *('abstract:"plan with"', 'abstract:"language models"', "abstract:mod*", "summary models"),
    *("cat:cs", "cat:cs.LG", "cat:CS.*", "cat:c*", "cat:csx", "cat:math", 'cat:"a b\'c\\"'),
    *('cat:"a b"', "cat:x", "cat:x.", "cat:x..y", "cat:x.*", "cat:é", "cat:é.ü"),
    *("source:feed", "source:feed:lab", "source:feed:*", "source:feed:o'x", "source:lab"),
    *(f"cat:{LONG}", f"cat:{LONG}.a", f"cat:{LONG}.c", f"cat:{LONG[:254]}*", "-cat:cs named"),
    *(LONG, f"{LONG}one", f"{LONG}two", f"{LONG}t*", f'"{LONG} {LONG}"', f"{LONG[:200]}*"),
    *(f"one -{LONG}two", f"qq* -{LONG}one", f"title:{LONG}one"),
    *(f"two -{LONG}", f"models OR {LONG}two"),
    *("upvotes:>5", "upvotes:<=10", "upvotes:<0", "stars:0", "comments:>5", "code:yes", "code:no"),
    *("models -upvotes:>5", "models upvotes:<0", "models OR upvotes:>5", "-code:yes models"),
    *("code:no -models", "code:no -(models OR agents)", "upvotes:>5 OR -stars:>5 code:yes"),
    *("agents (title:models OR -abstract:plan)", "models -(language OR agents)", "--models"),
    *("models -(language -large)", "code:no (models OR -graph)", "(models OR upvotes:10) code:no"),
    *('"gamma alpha"', '"alpha omega"', '"beta gamma"', '"far away"', '"語 far"'),
    *('"gamma delta"', 'abstract:"語 far"', '-"gamma delta" gamma'),
    *('-"gamma alpha" alpha', 'gamma -"alpha gamma"'),
    *("abstract:delta", "abstract:omega", 'endless -"gamma delta"', 'code:no -"gamma delta"'),
    *('"language neural"', '"planning we"', '"lab ada"', 'author:"graph ada"'),
    *("mo*", "qq*", "gam*", '"language mod*"', "zz*", "zebra", "models zebra", "models OR zebra"),
    # These begin names too, of which words know nothing: source:, cat:.
    *("so*", "source*", "ca*", "models ca*", "cats-ca*", "title:ca*", "models -so*"),
]  # fmt: skip


def test_search_finds_what_topics_match(
    shelf: Shelf,
) -> None:
    connection, papers = shelf
    found = {query: ids(connection, query) for query in QUERIES}
    assert found == {query: matched(papers, query) for query in QUERIES}
    # Not because nothing is found.
    assert sum(map(bool, found.values())) > 0.8 * len(found)
    for query in QUERIES:
        assert sorted(ids(connection, query, order=Order.RELEVANCE)) == sorted(found[query]), query


LEAVES = st.one_of(
    st.sampled_from(
        ["models", "agents", "language", "graph", "gamma", "named", "c++", "语", "mod*", LONG]
    ),
    st.sampled_from(['"gamma alpha"', '"language models"', '"neural network"', '"plan with ag*"']),
    st.builds(
        '{}:"{}"'.format,
        st.sampled_from(["title", "abstract", "author", "org", "keyword", "cat", "source"]),
        st.sampled_from(["models", "li", "graph theory", "cs", "feed", "lab", "ada li", "cs.lg"]),
    ),
    st.builds("upvotes:{}{}".format, st.sampled_from(["", ">", "<"]), st.integers(0, 11)),
    st.sampled_from(["code:yes", "code:no"]),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("-{}".format, inner),
    ),
    max_leaves=8,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREES)
def test_any_tree_finds_what_it_matches(shelf: Shelf, tree: str) -> None:
    connection, papers = shelf
    try:
        query = parse(tree)
    except TopicSyntaxError:
        assume(False)
    found = [id_at(place) for place in matching(connection, query, most=100)]
    assert found == matched(papers, tree)


def test_the_deepest_and_the_longest_filter(
    shelf: Shelf,
) -> None:
    connection, papers = shelf
    deep = "models"
    for number in range(MAX_DEPTH):
        deep = f"(w{number} {deep})" if number % 2 else f"(w{number} OR {deep})"
    negated = "models " + "-(graph " * (MAX_DEPTH // 2) + "agents" + ")" * (MAX_DEPTH // 2)
    long = " OR ".join(["models", *(f"w{number}" for number in range(190))])
    for query in (deep, negated, long, long.replace(" OR", ""), f"code:no ({long})"):
        assert ids(connection, query) == matched(papers, query)


def test_what_postgresql_cannot_hold_is_found_all_the_same(
    empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulltext, "_BYTES", 60)
    with trial(empty) as connection:
        store(connection, *PAPERS[:-5], PAPERS[-1])
        papers = documents(connection)
        for query in ("models", "models -agents", "cat:cs", '"neural network"', "code:no -graph",
                      "zebra", "-cat:cs models OR upvotes:10", "author:li"):  # fmt: skip
            assert ids(connection, query) == matched(papers, query), query


# ------------------------------------------------------------------ in step


ASKED = ("zebras", "lions", "stripes", "dots", "manes", "upvotes:1", "upvotes:7", "code:yes",
         '"dots manes"', "author:ada", "cat:q", "same -code:yes", "source:feed:third")  # fmt: skip


def test_the_index_is_in_step(empty: Engine) -> None:
    one = said(
        "1", "Zebras same", abstract="stripes", arxiv_id="2605.00001", signals={"upvotes": 1}
    )
    two = said("2", "Lions same", abstract="manes", doi="10.1000/x", source="feed:other")
    steps: list[Callable[[Connection], object]] = [
        lambda connection: store(connection, one, two),
        lambda connection: store(connection, replace(one, signals={"upvotes": 7})),
        lambda connection: store(connection, replace(one, abstract="dots", categories=("q.x",))),
        lambda connection: store(connection, replace(two, links={"code": "https://c"})),
        # Names both papers, and so makes one of them.
        lambda connection: store(
            connection,
            said("3", "Both same", source="feed:third", arxiv_id="2605.00001", doi="10.1000/x"),
        ),
        lambda connection: store(connection, replace(two, authors=("Ada",), abstract="dots manes")),
        lambda connection: merges.undo_merge(connection, 1, now=NOW),
        lambda connection: store(connection, replace(two, kind=Kind.WITHDRAWN)),
    ]
    sizes = []
    with trial(empty) as connection:
        for step in steps:
            if connection.dialect.name == "postgresql" and step is steps[-2]:
                [first, *_] = sorted(paper.id for paper in live(connection))
                merges.undo_merge(connection, first, now=NOW)
            else:
                step(connection)
            papers = documents(connection)
            sizes.append(len(papers))
            for query in ASKED:
                assert ids(connection, query) == matched(papers, query), (len(sizes), query)
            _check(connection)
        [found] = search(connection, parse("lions")).papers
        assert found.withdrawn
    assert sizes == [2, 2, 2, 2, 1, 1, 2, 2]


def test_a_newer_listing_comes_first(empty: Engine) -> None:
    one = said("1", "Same first", arxiv_id="2605.00001")
    with trial(empty) as connection:
        store(connection, one, said("2", "Same second"))
        second, first = ids(connection, "same")
        assert second > first
        store(connection, replace(one, source="feed:other", listed_at=NOW + DAY))
        assert ids(connection, "same") == [first, second]
        _check(connection)


def test_a_record_that_is_refused_leaves_nothing(empty: Engine) -> None:
    bad = said("2", "Zebras \ud800")
    fetch = Fetch(source="feed:lab", health=Health.OK, records=(said("1", "Zebras"), bad))
    with trial(empty) as connection:
        assert shelves.store(connection, fetch, now=NOW, oldest=NOW - DAY).refused == 1
        assert titles(connection, "zebras") == ["Zebras"]
        _check(connection)


def test_papers_of_before_are_found_after_an_upgrade(
    bare: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The tables and their papers are those of revision 0003."""
    url = f"sqlite:///{tmp_path}/filled.db"
    if bare.dialect.name == "postgresql":
        url = new_database(request.getfixturevalue("postgres_url"))
    filled = open_database(url)
    migrating.upgrade(filled)
    with writing(filled) as connection:
        store(connection, *PAPERS[:4], said("m", "Merged", doi="10.1000/x", arxiv_id="2605.00001"))
        store(connection, said("n", "Merged away", doi="10.1000/y", source="feed:other"))
        both = said("o", "Both", doi="10.1000/y", arxiv_id="2605.00001", source="feed:o")
        store(connection, both)
        words = _words(connection)
    make_older(bare, "0003", filled=filled)
    filled.dispose()
    migrating.upgrade(bare)
    with reading(bare) as connection:
        papers = documents(connection)
        for query in ("models", "merged", "language -graph", "zebra"):
            assert ids(connection, query) == matched(papers, query)
        assert _words(connection) == words


def test_an_index_of_before_is_made_anew(bare: Engine) -> None:
    config = migrating._config()
    old = MetaData()
    with writing(bare) as connection:
        config.attributes["connection"] = connection
        alembic_upgrade(config, "0009")
        old.reflect(connection, only=["paper", "indexed", "term"])
        values: dict[str, Any] = dict.fromkeys(
            ("url", "summary", "organisation", "venue", "comment"), ""
        )
        values |= {name: [] for name in ("authors", "keywords", "categories", "sources")}
        values |= {"links": {}, "signals": {}, "withdrawn": False, "votes": 0}
        values |= {"title": "Zebras", "abstract": "हिन्दी", "listed_at": NOW, "first_seen_at": NOW}
        connection.execute(insert(old.tables["paper"]).values(values))
        connection.execute(insert(old.tables["term"]).values(term="ह", papers=3))
        connection.execute(insert(old.tables["indexed"]).values(place=1, paper_id=1, code=False))
    migrating.upgrade(bare)
    with reading(bare) as connection:
        assert titles(connection, "zebras हिन्दी") == ["Zebras"]
        assert index.frequencies(connection, ["ह", "zebra"]) == {"zebra": 1}


def test_an_index_that_is_emptied_forgets_all(empty: Engine) -> None:
    with trial(empty) as connection:
        store(connection, *PAPERS[:3])
        for table in (schema.indexed_text, schema.indexed):
            connection.execute(delete(table))
        assert _words(connection)[0] == []


def _check(connection: Connection) -> None:
    """All that is kept is what would be made anew."""
    before = _words(connection)
    assert before[0]
    for table in (schema.term, schema.indexed_text, schema.indexed):
        connection.execute(delete(table))
    index.build(connection, shelves.unindexed(connection))
    assert _words(connection) == before


def _words(connection: Connection) -> tuple[list[Any], ...]:
    """What full text holds, the facts, and the counts of terms."""
    if connection.dialect.name == "sqlite":
        # Made at once in a transaction, it would be that of all that was written before.
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE temp.seen USING fts5vocab(main, indexed_words, instance)"
        )
        found = "SELECT doc, term, col, offset FROM temp.seen ORDER BY 1, 2, 3, 4"
        words = connection.exec_driver_sql(found).all()
        connection.exec_driver_sql("DROP TABLE temp.seen")
    else:
        words = connection.execute(
            text("SELECT place, CAST(terms AS text) FROM indexed_words ORDER BY 1")
        ).all()
    facts = connection.execute(select(schema.indexed).order_by(schema.indexed.c.place)).all()
    counts = connection.execute(
        select(schema.term).where(schema.term.c.papers != 0).order_by(schema.term.c.term)
    ).all()
    return [*words], [*facts], sorted(map(tuple, counts))


# ------------------------------------------------------------------ order, pages, marks


def test_relevance(empty: Engine) -> None:
    filler = " ".join(f"word{letter}" for letter in "abcdefghij")
    found = (
        said("1", "Newest", abstract=f"zebra {filler}", listed_at=NOW + DAY),
        said("2", "Often", abstract=f"zebra zebra zebra {filler}"),
        said("3", "Keyword", keywords=("zebra",), abstract=filler),
        said("4", "A zebra", abstract=filler),
        said("5", "Old", abstract=f"zebra {filler}", listed_at=NOW - DAY),
        said("6", "Old zebra and lion", abstract=filler, listed_at=NOW - 9 * DAY),
        said("7", "The zebra", abstract="a lion"),
    )
    with trial(empty) as connection:
        store(connection, *found)
        by_title = titles(connection, "zebra")
        assert set(by_title[:3]) == {"A zebra", "Old zebra and lion", "The zebra"}
        assert set(by_title[3:5]) == {"Keyword", "Often"}
        assert by_title[5:] == ["Newest", "Old"]
        assert titles(connection, "zebra lion") == ["Old zebra and lion", "The zebra"]
        assert titles(connection, "cat:x OR source:feed") == [
            paper.title for paper in live(connection)
        ]
        mixed = titles(connection, "lion OR upvotes:>5 OR -stars:1 code:no")
        assert mixed[0] == "Old zebra and lion"
        assert len(mixed) == len(found)
        assert titles(connection, "zebra code:no") == by_title
        assert titles(connection, "source:feed (zebra OR upvotes:>5)") == by_title
        for size in (1, 2, 3, 4):
            pages = [
                search(connection, parse("zebra"), start=start, limit=size)
                for start in range(0, len(found), size)
            ]
            assert [paper.title for page in pages for paper in page.papers] == by_title
            assert {page.count for page in pages} == {len(found)}


def test_a_title_with_the_words_as_typed_comes_first(empty: Engine) -> None:
    with trial(empty) as connection:
        store(
            connection,
            said("1", "Models of the world", abstract="world models " * 9),
            said("2", "A long title about the many kinds of world models that there may be"),
            said("3", "Models, world"),
        )
        for query in ("world models", "worlds mod*", "world title:models"):
            first = titles(connection, query)[0]
            assert first.startswith("A long title") is ("title:" not in query), query


def test_the_newest_of_somebody_comes_first(empty: Engine) -> None:
    with trial(empty) as connection:
        store(
            connection,
            said("1", "Old", authors=("Ada Lee",), organisation="Lab", listed_at=NOW - DAY),
            said("2", "New", authors=("Bo Li", "Ada Lee", "Lee Lee"), organisation="The Lab Lab"),
            said("3", "Short", authors=("Lee",), organisation="Lab", listed_at=NOW - 2 * DAY),
        )
        for query in ("author:lee", "org:lab", "author:lee OR org:lab"):
            assert titles(connection, query) == ["New", "Old", "Short"], query


def test_of_many_matches_the_newest_are_ranked(
    empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MOST", 3)
    with trial(empty) as connection:
        store(connection, said("0", "Zebra zebra", listed_at=NOW - DAY))
        store(connection, *(said(f"{number}", f"Zebra {number}") for number in range(1, 4)))
        for order in Order:
            found = search(connection, parse("zebra"), order=order)
            assert (found.count, found.more) == (3, True)
            assert [paper.title for paper in found.papers] == ["Zebra 3", "Zebra 2", "Zebra 1"]
        assert search(connection, parse("zebra -3")).count == 3
        assert not search(connection, parse("zebra -3")).more


def test_what_was_listed_since_a_day_is_counted(empty: Engine) -> None:
    since = (NOW - DAY).date()
    with trial(empty) as connection:
        days = itertools.cycle((NOW, NOW - DAY, NOW - 2 * DAY))
        store(connection, *(replace(one, listed_at=next(days)) for one in PAPERS))
        recent = [one for one in documents(connection) if _day(one[0]) >= since]
        expected = {query: len(matched(recent, query)) for query in QUERIES}
        assert {
            query: searching.count_since(connection, parse(query), since) for query in QUERIES
        } == expected
        for query in QUERIES[::7]:
            assert search(connection, parse(query), since=since).recent == expected[query]


def _day(paper: Paper) -> date:
    assert paper.listed_at is not None
    return paper.listed_at.date()


def test_pages_cover_all_once(shelf: Shelf) -> None:
    connection, papers = shelf
    for order in Order:
        pages = [
            search(connection, parse("code:no"), order=order, start=start, limit=5)
            for start in range(0, 25, 5)
        ]
        found = [paper.id for page in pages for paper in page.papers]
        assert len(found) == len(set(found)) == pages[0].count
        assert sorted(found) == sorted(matched(papers, "code:no"))


def test_marks_are_those_of_the_match(shelf: Shelf) -> None:
    connection, papers = shelf
    by_id = {paper.id: document for paper, document in papers}
    query = parse('"language models" OR agents')
    found = search(connection, query)
    assert any(hit.marks for hit in found.hits)
    for hit in found.hits:
        expected = match(query, by_id[hit.paper.id])
        assert expected is not None
        assert hit.marks == expected.marks


def test_a_search_leaves_postgresql_as_it_was(postgres_url: str) -> None:
    engine = open_database(new_database(postgres_url))
    names = ("enable_seqscan", "jit", "max_parallel_workers_per_gather")
    with reading(engine) as connection:
        before = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]
        search(connection, parse("models"))
        assert [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names] == before
    engine.dispose()


# ------------------------------------------------------------------ what was meant, what is alike


SUGGESTIONS = {
    "a letter changed": ("transfarmers", "transformers"),
    "neighbours exchanged": ("trasnformer", "transformer"),
    "first letter changed": ("xransformer", "transformer"),
    "first letter left out": ("ransformer", "transformer"),
    "first letters exchanged": ("rtansformer", "transformer"),
    "first letter and another changed": ("xransfromer", "transformer"),
    "first letter left out, another changed": ("ransfrmer", "transformer"),
    "first letter of a short word": ("xord", "word"),
    "first letter of an author": ("author:xaswani", "author:vaswani"),
    "no letter of ours": ("яransformer", "transformer"),
    "first letter doubled": ("ttransformer", "transformer"),
    "two mistakes": ("transfromr", "transformer"),
    "one of two words": ("langage transformers", "language transformers"),
    "in a field": ("title:transformr", "title:transformer"),
    "in a phrase": ('"transformr language" OR x', '"transformer language" OR x'),
    "an author": ("author:vaswnai", "author:vaswani"),
    "what is left out stays": ("transformr -langage", "transformer -langage"),
    "the more frequent": ("modle", "model"),
    "short": ("wrod", "word"),
    "too far": ("trnsfmr", None),
    "known": ("transformer", None),
    "numbers": ("20199", None),
    "a prefix": ("transfarm*", None),
    "nothing near": ("qqqqqqqq", None),
    "nothing in common": ("transformr mode", None),
    "a name": ("ada vaswani", 'author:"ada vaswani"'),
    "the last name first": ("vaswani ada", "author:vaswani author:ada"),
    "a name alone": ("Vaswani", "author:Vaswani"),
    "somebody's papers": ("papers by Ada Vaswani", 'author:"Ada Vaswani"'),
    "a name mistyped": ("Ada Vaswnai", 'author:"Ada vaswani"'),
    "no name near": ("vaswnia", None),
    "a question": ("what is a transformer?", "transformer?"),
    "a question mistyped": ("what is a transfromer?", "transformer?"),
}


@pytest.mark.parametrize(("query", "expected"), SUGGESTIONS.values(), ids=SUGGESTIONS.keys())
def test_suggestions(query: str, expected: str | None, taught: Connection) -> None:
    before = len(matching(taught, parse(query), most=10))
    assert suggest(taught, parse(query), found=before) == expected


@pytest.mark.parametrize(
    "query",
    [
        "what is qtransformr by wlanguge xtransfomer pmodle nwordz",
        " ".join(f"q{word}transformer" for word in "abcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_a_suggestion_takes_no_more_work_for_more_words(
    query: str, taught: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look-up compares two thousand words; PostgreSQL left alone reads all terms for it."""
    looked_up: list[tuple[str, str]] = []

    def near(connection: Connection, word: str, papers: int, field: str) -> str | None:
        looked_up.append((field, word))
        if connection.dialect.name == "postgresql":
            assert connection.execute(text("SHOW enable_seqscan")).scalar_one() == "off"
        return meant(connection, word, papers, field)

    meant = suggestions._meant
    monkeypatch.setattr(suggestions, "_meant", near)
    suggest(taught, parse(query), found=0)
    assert 0 < len(looked_up) == len(set(looked_up)) <= 11


@pytest.fixture(scope="module")
def taught(make: Make) -> Iterator[Connection]:
    """Papers in which some words are frequent."""
    found = [
        said(f"{number}", f"{number} transformer language model words", authors=("Ada Vaswani",))
        for number in range(5)
    ]
    found += [said(f"m{number}", f"{number} mode 2019") for number in range(3)]
    with reading(make(*found)) as connection:
        yield connection


def test_similar_papers(empty: Engine) -> None:
    found = (
        said("1", "Zebra stripes", abstract="Zebras of the savanna, counted by camera traps"),
        said("2", "Counting zebras", abstract="Camera traps on the savanna"),
        said("3", "Stripes of tigers", abstract="Seen by nobody"),
        said("4", "Fish", abstract="Seen by the sea"),
        said("5", "Zebra stripes again", abstract="Camera traps", kind=Kind.WITHDRAWN),
        said("6", "Numbers", abstract="Primes are infinite"),
        said("7", "?!"),
    )
    with trial(empty) as connection:
        store(connection, *found)
        papers = {paper.title: paper.id for paper in live(connection)}
        alike = [paper.title for paper in similar(connection, papers["Zebra stripes"])]
        assert alike == ["Counting zebras", "Stripes of tigers", "Fish"]
        assert len(similar(connection, papers["Zebra stripes"], limit=1)) == 1
        assert similar(connection, papers["Numbers"]) == similar(connection, papers["?!"]) == []
        with pytest.raises(NotFound):
            similar(connection, 10**6)
