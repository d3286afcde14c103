"""The sentences of a mail, each true of its data."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from digest.locales import language
from digest.models import Frequency, Reason, Schedule
from digest.rendering import Renderer
from digest.rendering.words import Facts, byline, date_line, lead, subscription, why
from tests import mails

ENGLISH = language("en")
THURSDAY, SATURDAY, MONDAY = date(2026, 5, 28), date(2026, 5, 30), date(2026, 6, 1)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        pytest.param(
            {"count": 6, "candidates": 431}, "Six papers for you, out of 431 new ones.", id="plain"
        ),
        pytest.param(
            {"count": 1, "candidates": 431}, "One paper for you, out of 431 new ones.", id="one"
        ),
        pytest.param(
            {"count": 12, "candidates": 4310},
            "Twelve papers for you, out of 4,310 new ones.",
            id="twelve is a word",
        ),
        pytest.param(
            {"count": 13, "candidates": 431},
            "13 papers for you, out of 431 new ones.",
            id="thirteen is not",
        ),
        pytest.param({"count": 6, "candidates": 6}, "Six new papers for you.", id="all of them"),
        pytest.param({"count": 1, "candidates": 1}, "One new paper for you.", id="the only one"),
        pytest.param({"count": 2, "candidates": 0}, "Two new papers for you.", id="not counted"),
        pytest.param(
            {"count": 3, "candidates": 12, "day": SATURDAY},
            "Three papers for your Saturday, out of 12 new ones.",
            id="weekend",
        ),
        pytest.param(
            {"count": 3, "candidates": 12, "day": MONDAY},
            "Three papers to start the week, out of 12 new ones.",
            id="monday",
        ),
        pytest.param(
            {"count": 10, "candidates": 1204, "day": MONDAY, "weekly": True},
            "Ten papers for you this week, out of 1,204 new ones.",
            id="weekly on a monday",
        ),
        pytest.param(
            {"count": 6, "candidates": 431, "votes": 163, "next_votes": 40},
            "Six papers for you, out of 431 new ones. One stands out, with 163 votes.",
            id="one stands out",
        ),
        pytest.param(
            {"count": 6, "candidates": 431, "votes": 79, "next_votes": 40},
            "Six papers for you, out of 431 new ones.",
            id="a small lead",
        ),
        pytest.param(
            {"count": 6, "candidates": 431, "votes": 9, "next_votes": 1},
            "Six papers for you, out of 431 new ones.",
            id="few votes say little",
        ),
        pytest.param(
            {"count": 1, "candidates": 431, "votes": 163},
            "One paper for you, out of 431 new ones.",
            id="one alone cannot stand out",
        ),
        pytest.param(
            {"count": 6, "candidates": 431, "topic": "agents", "topic_count": 4, "topics": 2},
            "Six papers for you, out of 431 new ones. Four of them match your topic agents.",
            id="top topic",
        ),
        pytest.param(
            {"count": 6, "candidates": 431, "topic": "agents", "topic_count": 6, "topics": 2},
            "Six papers for you, out of 431 new ones. All of them match your topic agents.",
            id="one topic of two",
        ),
        pytest.param(
            {"count": 6, "candidates": 431, "topic": "agents", "topic_count": 6, "topics": 1},
            "Six papers for you, out of 431 new ones.",
            id="who follows one topic knows it",
        ),
        pytest.param(
            {"count": 6, "candidates": 431, "topic": "agents", "topic_count": 2, "topics": 2},
            "Six papers for you, out of 431 new ones.",
            id="too few for a topic",
        ),
    ],
)
def test_the_lead_is_true_of_the_data(facts: dict[str, Any], sentence: str) -> None:
    assert lead(Facts(**{"day": THURSDAY} | facts), language=ENGLISH) == sentence


@pytest.mark.parametrize(
    ("reasons", "line"),
    [
        ([("topic", "agents")], "Topic: agents"),
        ([("topic", "agents", "vision", "speech")], "Topics: agents, vision and speech"),
        ([("votes", 163, 40)], "40 new votes"),
        ([("votes", 1, 0)], ""),  # it stands beside the title
        ([("votes", 1, 1)], "1 new vote"),
        ([("topic", "agents"), ("votes", 7, 0)], "Topic: agents"),
        ([("most_votes",)], "Most votes of its day"),
        ([("rising", 1)], "Rising: 1 new vote"),
        ([("rising", 40)], "Rising: 40 new votes"),
        ([("comments", 1)], "1 comment"),
        ([("comments", 12)], "12 comments"),
        ([("code", 1)], "Code with 1 star"),
        ([("code", 2800)], "Code with 2,800 stars"),
        ([("code", 0)], "Has code"),
        ([("fresh",)], "Just out"),
        ([("source", "huggingface", "arxiv")], "New on Hugging Face and arXiv"),
        ([("source", "feed:example-lab")], "New on example-lab"),
        ([("topic", "agents"), ("most_votes",)], "Topic: agents\u00a0· most votes of its day"),
        ([], ""),
    ],
)
def test_reasons_become_words(reasons: list[tuple[Any, ...]], line: str) -> None:
    data = [Reason(kind=kind, args=args) for kind, *rest in reasons for args in [tuple(rest)]]
    assert why(data, language=ENGLISH) == line


def test_an_unknown_reason_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    reasons = [Reason(kind="moon", args=("full",)), Reason(kind="fresh")]
    with caplog.at_level(logging.WARNING):
        assert why(reasons, language=ENGLISH) == "Just out"
    assert "'moon'" in caplog.text


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        pytest.param(
            {"zone": "Europe/Berlin", "hour": 8, "frequency": Frequency.WEEKDAYS},
            "You get this on weekdays at 8:00, Berlin time,"
            " because you subscribed on 3 March 2026.",
            id="weekdays",
        ),
        pytest.param(
            {"zone": "America/New_York", "hour": 0, "frequency": Frequency.DAILY},
            "You get this every day at 0:00, New York time,"
            " because you subscribed on 3 March 2026.",
            id="daily",
        ),
        pytest.param(
            {"zone": "Asia/Kolkata", "hour": 18, "frequency": Frequency.WEEKLY, "weekday": 6},
            "You get this every Sunday at 18:00, Kolkata time,"
            " because you subscribed on 3 March 2026.",
            id="weekly",
        ),
        pytest.param(
            {"zone": "Etc/UTC", "hour": 8, "frequency": Frequency.DAILY},
            "You get this every day at 8:00 UTC, because you subscribed on 3 March 2026.",
            id="no city",
        ),
    ],
)
def test_why_it_comes(schedule: dict[str, Any], sentence: str) -> None:
    begun = Schedule(since=datetime(2026, 3, 3, tzinfo=UTC), **schedule)
    assert subscription(begun, date(2026, 3, 3), language=ENGLISH) == sentence


@pytest.mark.parametrize(
    ("topics", "line"),
    [
        ([], "Thursday, 28 May 2026"),
        (["agents"], "Thursday, 28 May 2026\u00a0· for your topic agents"),
        (["agents", "vision"], "Thursday, 28 May 2026\u00a0· for your topics agents and vision"),
        (list("abcdef"), "Thursday, 28 May 2026\u00a0· for your topics a, b, c, d and 2 more"),
    ],
)
def test_the_date_line(topics: list[str], line: str) -> None:
    assert date_line(THURSDAY, topics, language=ENGLISH) == line


@pytest.mark.parametrize(
    ("authors", "line"),
    [
        ([], ""),
        (["A"], "A"),
        (["A", "B", "C"], "A, B, C"),
        (["Example Team", ":", "B"], "Example Team, B"),
        (["A", "B", "C", "D"], "A, B, C and 1 more"),
        ([str(number) for number in range(2003)], "0, 1, 2 and 2,000 more"),
    ],
)
def test_the_byline(authors: list[str], line: str) -> None:
    assert byline(authors, language=ENGLISH) == line


# ------------------------------------------------------------------ subject and preheader


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(mails.TEMPLATES, mails.SITE)


@pytest.mark.parametrize(
    ("title", "papers", "subject"),
    [
        pytest.param("Short & Sweet", 1, "Short & Sweet", id="one"),
        pytest.param("Short <b>", 6, "Short <b> + 5 more", id="several"),
        pytest.param(
            "A Very Long Title about the Many Ways in which Titles Become Too Long: A Survey",
            13,
            "A Very Long Title about the Many Ways in which Titles Become Too… + 12 more",
            id="cut at a word",
        ),
        pytest.param("x" * 200, 2, "x" * 68 + "… + 1 more", id="one long word"),
        pytest.param("Two\r\nlines\tof it", 1, "Two lines of it", id="newlines"),
    ],
)
def test_the_subject(renderer: Renderer, title: str, papers: int, subject: str) -> None:
    chosen = [mails.entry(1, title=title), *(mails.entry(n) for n in range(2, papers + 1))]
    made = mails.personal(renderer, chosen)["subject"]
    assert made == subject
    assert len(made) <= 78


def test_the_preheader_goes_on_where_the_subject_ends(renderer: Renderer) -> None:
    words = mails.personal(renderer, mails.entries(cards=3, lines=0))["preheader"]
    assert words == (
        "Invented Work 2: Agents that Read Slowly · Invented Work 3: Agents that Read Slowly"
    )
    alone = mails.personal(renderer, mails.entries(cards=1, lines=0))["preheader"]
    assert alone == "A study of agents that read slowly and remember more."


def test_the_personal_words_are_of_the_readers_zone_and_schedule(renderer: Renderer) -> None:
    reader = mails.subscriber(confirmed_at=datetime(2026, 3, 3, 23, 30, tzinfo=UTC))
    words = mails.personal(
        renderer,
        mails.entries(),
        subscriber=reader,
        slot=mails.slot(frequency=Frequency.WEEKLY, weekday=3),
    )
    assert words["also"] == "Also this week"
    assert " ".join(words["why"].split()).endswith("because you subscribed on 4 March 2026.")


def test_a_link_that_is_none_is_refused(renderer: Renderer) -> None:
    with pytest.raises(ValueError, match="no http or https URL"):
        mails.personal(renderer, mails.entries(), unsubscribe_url="javascript:leave()")


def test_a_language_without_words_falls_back_whole(renderer: Renderer) -> None:
    reader = replace(mails.subscriber(), locale="nl_BE")
    assert mails.personal(renderer, mails.entries(), subscriber=reader) == mails.personal(
        renderer, mails.entries()
    )
