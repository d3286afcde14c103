"""The sentences of a mail: data in, words out, each one true of the data.

Every pattern is a whole sentence or phrase for gettext, with its numbers as arguments; nothing is
glued from words that another language would order differently.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from digest.locales import Language, begun
from digest.models import Frequency, Reason, Schedule
from digest.rendering.prose import one_line, shorten

log = logging.getLogger(__name__)

STANDS_OUT = 50  # votes; below it a lead over the others says little
MOST_TOPICS = 4  # names in the date line
DOT = "\u00a0· "  # between facts; it ends a line and never begins one
SOURCES = {"huggingface": "Hugging Face", "arxiv": "arXiv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the lead line may speak of."""

    count: int  # papers in this mail, 1 or more
    candidates: int  # new papers that were considered
    day: date  # the reader's date
    weekly: bool = False
    votes: int = 0  # of the paper with the most
    next_votes: int = 0  # of the one after it
    topic: str = ""  # the one that most of the papers matched
    topic_count: int = 0  # and how many did
    topics: int = 0  # how many topics the reader follows


def lead(facts: Facts, *, language: Language) -> str:
    """One or two sentences: how many papers out of how many, and what is remarkable about them."""
    opening, more = _opening(facts, language=language), _remark(facts, language=language)
    if not more:
        return opening
    # TRANSLATORS: two sentences, one after the other; not all languages have a blank between.
    return language.gettext("%(first)s %(second)s") % {"first": opening, "second": more}


def why(reasons: Sequence[Reason], *, language: Language) -> str:
    """Why a paper was chosen, beyond the votes beside it: `Topic: agents · 12 new votes`.

    A kind that has no words is left out and logged.
    """
    phrases = []
    for reason in reasons:
        phrase = _PHRASES.get(reason.kind)
        if phrase is None:
            log.warning(
                "A reason of the unknown kind %r is not shown.",
                reason.kind,
                extra={"action": "reason_unknown", "kind": reason.kind},
            )
            continue
        phrases.append(phrase(language, *reason.args))
    line = DOT.join(phrase for phrase in phrases if phrase)
    return begun(line)


def date_line(day: date, topics: Sequence[str], *, language: Language) -> str:
    """`Thursday, 28 May 2026 · for your topics agents and reasoning`."""
    today = begun(language.day(day, "full"))
    if not topics:
        return today
    names = [_name(topic) for topic in topics[:MOST_TOPICS]]
    if len(topics) > MOST_TOPICS:
        more = len(topics) - MOST_TOPICS
        more_topics = language.npgettext("topics", "%(count)s more", "%(count)s more", more)
        names.append(more_topics % {"count": more})
    listed = language.listing(names)
    followed = language.ngettext(
        "for your topic %(topics)s", "for your topics %(topics)s", len(topics)
    ) % {"topics": listed}
    return f"{today}{DOT}{followed}"


def subscription(schedule: Schedule, since: date, *, language: Language) -> str:
    """Why this mail came at all: when it is sent, and since when."""
    city = language.city(schedule.zone)
    hour = f"{schedule.hour}:00"
    # A clock and whose it is: "8:00, Berlin time".
    time = (
        language.gettext("%(hour)s, %(city)s time") % {"hour": hour, "city": city}
        if city
        else f"{hour} {schedule.zone.removeprefix('Etc/')}"
    )
    words = {"time": time, "date": language.day(since)}
    if schedule.frequency is Frequency.WEEKDAYS:
        said = language.gettext(
            "You get this on weekdays at %(time)s, because you subscribed on %(date)s."
        )
    elif schedule.frequency is Frequency.WEEKLY:
        words["weekday"] = _weekday(schedule.weekday or 0, language=language)
        said = language.gettext(
            "You get this every %(weekday)s at %(time)s, because you subscribed on %(date)s."
        )
    else:
        said = language.gettext(
            "You get this every day at %(time)s, because you subscribed on %(date)s."
        )
    return said % words


def byline(authors: Sequence[str], *, language: Language) -> str:
    """The first three authors, and how many more there are."""
    people = [author for author in authors if any(map(str.isalnum, author))]  # arXiv has ":"
    names = language.joined([_name(author) for author in people[:3]])
    more = len(people) - 3
    if more <= 0:
        return names
    return language.ngettext(
        "%(names)s and %(count)s more", "%(names)s and %(count)s more", more
    ) % {"names": names, "count": language.number(more)}


def counted_comments(count: int, *, language: Language) -> str:
    return language.ngettext("%(count)s comment", "%(count)s comments", count) % {
        "count": language.number(count)
    }


def counted_stars(count: int, *, language: Language) -> str:
    return language.ngettext("%(count)s star", "%(count)s stars", count) % {
        "count": language.number(count)
    }


def _opening(facts: Facts, *, language: Language) -> str:
    words = {
        "count": _spelled(facts.count, language=language),
        "candidates": language.number(facts.candidates),
        "weekday": language.day(facts.day, "EEEE"),
    }
    if facts.candidates <= facts.count:
        sentence = language.ngettext(
            "%(count)s new paper for you.", "%(count)s new papers for you.", facts.count
        )
    elif facts.weekly:
        sentence = language.ngettext(
            "%(count)s paper for you this week, out of %(candidates)s new ones.",
            "%(count)s papers for you this week, out of %(candidates)s new ones.",
            facts.count,
        )
    elif facts.day.weekday() == 0:
        sentence = language.ngettext(
            "%(count)s paper to start the week, out of %(candidates)s new ones.",
            "%(count)s papers to start the week, out of %(candidates)s new ones.",
            facts.count,
        )
    elif facts.day.weekday() >= 5:
        sentence = language.ngettext(
            "%(count)s paper for your %(weekday)s, out of %(candidates)s new ones.",
            "%(count)s papers for your %(weekday)s, out of %(candidates)s new ones.",
            facts.count,
        )
    else:
        sentence = language.ngettext(
            "%(count)s paper for you, out of %(candidates)s new ones.",
            "%(count)s papers for you, out of %(candidates)s new ones.",
            facts.count,
        )
    said = sentence % words
    return begun(said)


def _remark(facts: Facts, *, language: Language) -> str:
    if facts.count < 2:
        return ""
    if facts.votes >= max(STANDS_OUT, 2 * facts.next_votes):
        return language.gettext("One stands out, with %(votes)s votes.") % {
            "votes": language.number(facts.votes)
        }
    # Who follows one topic knows that everything matches it.
    if facts.topics > 1 and facts.count >= 3 and facts.topic_count * 2 >= facts.count:
        topic = _name(facts.topic)
        if facts.topic_count >= facts.count:
            return language.gettext("All of them match your topic %(topic)s.") % {"topic": topic}
        spelled = _spelled(facts.topic_count, language=language)
        said = language.ngettext(
            "%(count)s of them matches your topic %(topic)s.",
            "%(count)s of them match your topic %(topic)s.",
            facts.topic_count,
        ) % {"count": spelled, "topic": topic}
        return begun(said)
    return ""


def _topic(language: Language, *names: str | int) -> str:
    return language.ngettext("topic: %(names)s", "topics: %(names)s", len(names)) % {
        "names": language.listing([_name(str(name)) for name in names])
    }


def _votes(language: Language, _value: str | int, gain: str | int = 0) -> str:
    # How many there are stands beside the title.
    if int(gain) <= 0:
        return ""
    return language.ngettext("%(gain)s new vote", "%(gain)s new votes", int(gain)) % {
        "gain": language.number(int(gain))
    }


def _most_votes(language: Language) -> str:
    # Not "today": a weekly digest has papers of seven days, a Monday's of three.
    return language.gettext("most votes of its day")


def _rising(language: Language, gain: str | int) -> str:
    return language.ngettext(
        "rising: %(gain)s new vote", "rising: %(gain)s new votes", int(gain)
    ) % {"gain": language.number(int(gain))}


def _comments(language: Language, count: str | int) -> str:
    return counted_comments(int(count), language=language)


def _code(language: Language, stars: str | int = 0) -> str:
    if not int(stars):
        return language.gettext("has code")
    return language.ngettext(
        "code with %(count)s star", "code with %(count)s stars", int(stars)
    ) % {"count": language.number(int(stars))}


def _fresh(language: Language) -> str:
    return language.gettext("just out")


def _source(language: Language, *names: str | int) -> str:
    return language.gettext("new on %(sources)s") % {
        "sources": language.listing([_source_name(str(name)) for name in names])
    }


def _author(language: Language, *names: str | int) -> str:
    return language.gettext("because you follow %(names)s") % {
        "names": language.listing([_name(str(name)) for name in names])
    }


def _search(language: Language, *queries: str | int) -> str:
    return language.ngettext(
        "your search: %(queries)s", "your searches: %(queries)s", len(queries)
    ) % {"queries": language.listing([_name(str(query)) for query in queries])}


def _like(language: Language, title: str | int, how: str | int) -> str:
    words = {"title": _name(str(title))}
    if how == "seed":
        return language.gettext("like ‘%(title)s’, a paper you named") % words
    return language.gettext("like ‘%(title)s’, which you asked for more of") % words


def _seed(language: Language) -> str:
    return language.gettext("you asked for papers like this one")


def _source_name(name: str) -> str:
    return SOURCES.get(name) or _name(name.removeprefix("feed:"))


_PHRASES: dict[str, Callable[..., str]] = {
    "topic": _topic,
    "votes": _votes,
    "most_votes": _most_votes,
    "rising": _rising,
    "comments": _comments,
    "code": _code,
    "fresh": _fresh,
    "source": _source,
    "author": _author,
    "lab": _author,
    "search": _search,
    "like": _like,
    "seed": _seed,
}


@lru_cache(maxsize=4096)
def _name(name: str) -> str:
    """A name of a topic, source or person, on one line and not endless."""
    return shorten(one_line(name), 60)


def _weekday(number: int, *, language: Language) -> str:
    return language.day(date(2024, 1, 1 + number), "EEEE")  # 1 January 2024 was a Monday


def _spelled(count: int, *, language: Language) -> str:
    """A number as a word up to twelve, in figures beyond."""
    names = _numerals(language)
    return names[count - 1] if 1 <= count <= len(names) else language.number(count)


@lru_cache(maxsize=64)
def _numerals(language: Language) -> Sequence[str]:
    return (
        # TRANSLATORS: the numbers up to twelve as they stand before "papers"; figures will do.
        language.gettext("one"),
        language.gettext("two"),
        language.gettext("three"),
        language.gettext("four"),
        language.gettext("five"),
        language.gettext("six"),
        language.gettext("seven"),
        language.gettext("eight"),
        language.gettext("nine"),
        language.gettext("ten"),
        language.gettext("eleven"),
        language.gettext("twelve"),
    )
