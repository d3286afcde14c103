"""The language of filters: what parses to what, what is refused and where."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from digest.errors import TopicSyntaxError
from digest.topics.language import MAX_DEPTH, MAX_LENGTH, MAX_TERMS, parse
from digest.topics.query import And, Count, Flag, Name, Not, Or, Query, Text

CANONICAL = {
    "word": ("agents", "agents"),
    "side by side": ("large  language\nmodels", "large language models"),
    "and": ("a AND b AND c", "a b c"),
    "or binds less": ("a b OR c AND d", "a b OR c d"),
    "parentheses": ("a AND (b OR c)", "a (b OR c)"),
    "needless parentheses": ("((a) ((b AND c)))", "a b c"),
    "nested or": ("a OR (b OR c)", "a OR b OR c"),
    "not": ("a NOT b", "a -b"),
    "minus": ("a -b -title:c", "a -b -title:c"),
    "typed minus": ("a –b −c", "a -b -c"),
    "not a group": ("a -(b c) NOT (d OR e)", "a -(b c) -(d OR e)"),
    "twice not": ("NOT NOT a", "--a"),
    "hyphen": ("multi-agent", "multi-agent"),
    "phrase": ('"large  language model"', '"large language model"'),
    "phrase of one": ('"agents"', "agents"),
    "smart quotes": ("“large model” „klein“ «petit»", '"large model" klein petit'),
    "operator in quotes": ('"OR" "not" "-x"', '"OR" "not" "-x"'),
    "prefix": ("transform*", "transform*"),
    "prefix that is an operator": ("OR* title:not*", "OR* title:not*"),
    "prefix of the last": ("multi-ag*", "multi-ag*"),
    "star in quotes": ('"A* search"', '"A* search"'),
    "fields": ("title:agents author:LeCun", "title:agents author:LeCun"),
    "field in capitals": ("Title:Agents", "title:Agents"),
    "blank after a field": ('title: agents org: "Some Lab"', 'title:agents org:"Some Lab"'),
    "category": ("cat:cs.LG OR cat:math.*", "cat:cs.LG OR cat:math.*"),
    "source of a feed": ("source:feed:lab", "source:feed:lab"),
    "counts": ("upvotes:>=10 stars:<5 comments:7", "upvotes:>=10 stars:<5 comments:7"),
    "counts otherwise": ("upvotes:≥10 stars:=5", "upvotes:>=10 stars:5"),
    "code": ("code:YES -code:no", "code:yes -code:no"),
    "languages": ("C++ C# .NET", "C++ C# .NET"),
    "number with a colon": ("3:1", "3:1"),
}


@pytest.mark.parametrize(("query", "canonical"), CANONICAL.values(), ids=CANONICAL.keys())
def test_a_filter_has_one_short_form(query: str, canonical: str) -> None:
    tree = parse(query)
    assert str(tree) == canonical
    assert parse(canonical) == tree


REFUSED = {
    "empty": ("  ", "empty", 0),
    "open parenthesis": ("a (b OR c", "never closed", 2),
    "only an open one": ("a (", "never closed", 2),
    "closing parenthesis": ("a) b", "closes nothing", 1),
    "closing first": (")", "closes nothing", 0),
    "nothing inside": ("a ()", "between these parentheses", 2),
    "quote": ('a "b c', "quote is never closed", 2),
    "and at the end": ("a AND", "Nothing follows this AND", 2),
    "or at the start": ("OR a", "before this OR", 0),
    "or twice": ("a OR OR b", "Nothing follows this OR", 2),
    "not at the end": ("a NOT", "Nothing follows this NOT", 2),
    "or before parenthesis": ("(a OR) b", "Nothing follows this OR", 3),
    "lone minus": ("a - b", "without a space", 2),
    "unknown field": ("a titel:b", "did you mean title:", 2),
    "address": ("https://example.org", '"quotes"', 0),
    "no value": ("a title:", "Nothing follows title:", 2),
    "operator for a value": ("cat: OR b", "Nothing follows cat:", 0),
    "field before parentheses": ("title:(a b)", "before each word", 0),
    "bad number": ("upvotes:many", "upvotes:>=10", 8),
    "negative number": ("upvotes:>-1", "upvotes:>=10", 8),
    "bad flag": ("code:maybe", "yes or no", 5),
    "no word": ("a ?!", "no word in ?!", 2),
    "no word in quotes": ('a "--"', "no word", 2),
    "star inside": ("tr*former", "end of a word", 0),
    "star alone": ("a *", "no word", 2),
    "star after one letter": ("a*", "two letters", 0),
    "star after a sign": ("abc+*", "two letters", 0),
    "fuzzy": ("agent~2", "~ has no meaning", 0),
    "boost": ("agent^2", "^ has no meaning", 0),
    "small or": ("a or b", "OR in capitals", 2),
    "other languages": ("a || b", "Write OR instead", 2),
    "exclamation mark": ("a !b", "Write NOT instead", 2),
    "only negative": ("NOT a", "only says what to leave out", 0),
    "only negatives": ("-a -b", "only says what to leave out", 0),
    "negative alternative": ("a OR -b", "only says what to leave out", 0),
    "hidden negative": ("-(a -b)", "only says what to leave out", 0),
    "long": ("a" * (MAX_LENGTH + 1), "at most 2,000 characters", 60),
    "deep": ("(" * 33 + "a" + ")" * 33, "at most 32 deep", 32),
    "deep nots": ("a " + "-" * 33 + "b", "at most 32 deep", 34),
    "many": ("ab " * 201, "at most 200 terms", 600),
}


@pytest.mark.parametrize(("query", "message", "position"), REFUSED.values(), ids=REFUSED.keys())
def test_a_mistake_is_named_and_placed(query: str, message: str, position: int) -> None:
    with pytest.raises(TopicSyntaxError) as refused:
        parse(query)
    assert message in refused.value.message
    assert refused.value.position == position


def test_the_bounds_are_inside() -> None:
    parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    parse("ab " * MAX_TERMS)
    parse("ab " * (MAX_LENGTH // 3 // 5) + "c" * 50)


def test_a_filter_that_asks_through_two_negations_asks() -> None:
    assert parse("NOT (NOT a OR NOT b)") == Not(
        part=Or(parts=(Not(part=parse("a")), Not(part=parse("b"))))
    )


def test_words_are_taken_once() -> None:
    assert parse('"Multi-Agent Systems"') == Text(
        field="", text="Multi-Agent Systems", terms=("multi", "agent", "system")
    )
    tree = parse("Studies*")
    assert isinstance(tree, Text)
    assert tree.terms == ("studies",)


LEAF_TEXTS = st.text(
    st.sampled_from('abAB01 -+#.:*~^!&|éß学()"“ANDORNOT>=<'), min_size=1, max_size=8
).map(lambda text: " ".join(text.split()))
QUOTED = LEAF_TEXTS.filter(lambda text: not set(text) & set('"“”„«»')).map(lambda text: f'"{text}"')
LEAVES = st.one_of(
    LEAF_TEXTS,
    QUOTED,
    st.builds(
        "{}:{}".format,
        st.sampled_from(["title", "abstract", "author", "org", "keyword", "cat", "source"]),
        LEAF_TEXTS | QUOTED,
    ),
    st.builds("upvotes:{}{}".format, st.sampled_from(["", ">=", "<"]), st.integers(0, 99)),
    st.sampled_from(["code:yes", "code:no", "agents", "gpt-4*"]),
)
QUERIES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("{} {}".format, inner, inner),
        st.builds("{} OR {}".format, inner, inner),
        st.builds("({})".format, inner),
        st.builds("-{}".format, inner),
        st.builds("NOT {}".format, inner),
    ),
    max_leaves=6,
)


@given(st.one_of(QUERIES, st.text(max_size=40)))
def test_the_canonical_form_parses_to_the_same_tree(query: str) -> None:
    refused: TopicSyntaxError | None = None
    try:
        tree = parse(query)
    except TopicSyntaxError as error:
        refused = error
    else:
        assert parse(str(tree)) == tree
        assert str(parse(str(tree))) == str(tree)
    assert refused is None or 0 <= refused.position <= len(query)


NODES: st.SearchStrategy[Query] = st.recursive(
    st.one_of(
        st.sampled_from([Text(field="", text=name, terms=(name,)) for name in ("ab", "cd", "ef")]),
        st.just(Name(field="cat", text="cs", folded="cs")),
        st.just(Count(field="stars", sign=">", number=3)),
        st.just(Flag(field="code", wanted=True)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda part: Not(part=part), inner),
        st.builds(
            lambda parts: And(parts=tuple(parts)),
            st.lists(inner.filter(lambda part: not isinstance(part, And)), min_size=2, max_size=3),
        ),
        st.builds(
            lambda parts: Or(parts=tuple(parts)),
            st.lists(inner.filter(lambda part: not isinstance(part, Or)), min_size=2, max_size=3),
        ),
    ),
    max_leaves=8,
)


@given(NODES)
def test_every_tree_can_be_written(tree: Query) -> None:
    try:
        parsed = parse(str(tree))
    except TopicSyntaxError as refused:
        assume("leave out" not in refused.message)
        raise
    assert parsed == tree
