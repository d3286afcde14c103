"""The words that only one mail has: subject, preheader, date, lead, the reason it came.

Mails of one slot differ in papers and topics and share most of their sentences, so what takes long
(a template, Babel, line breaks) is remembered by what it depends on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from digest import locales
from digest.locales import Language
from digest.models import Frequency, Schedule, Slot, Subscriber
from digest.rendering import words
from digest.rendering.card import Entry, heading, summary
from digest.rendering.prose import glued, one_line, plain, shorten, web_url, wrap
from digest.rendering.templating import Templates

LONGEST_SUBJECT = 78  # characters before encoding: RFC 5322 2.1.1
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
LONGEST_PREHEADER = 140  # what the widest inbox list shows


def personal_words(
    templates: Templates,
    entries: Sequence[Entry],
    *,
    subscriber: Subscriber,
    slot: Slot,
    candidates: int,
    topics: Sequence[str],
    unsubscribe_url: str,
    preferences_url: str,
    view_url: str,
    feedback: str,
    notes: Sequence[str] = (),
) -> dict[str, str]:
    """See `Renderer.personal`."""
    if not _TOKEN.fullmatch(feedback):
        raise ValueError("the feedback token of the mail is no part of a path")
    language = locales.language(subscriber.locale)
    titles = [heading(entry.paper.title) for entry in entries]
    weekly = slot.schedule.frequency is Frequency.WEEKLY
    since = subscriber.confirmed_at or subscriber.created_at
    local = since.astimezone(ZoneInfo(slot.schedule.zone)).date()
    words = {
        "locale": language.tag,
        "subject": _subject(templates, titles[0], len(titles) - 1, language),
        "preheader": _preheader(entries[0], titles),
        "date_line": _date_line(slot.date, tuple(topics), language),
        "lead": _lead(_facts(entries, slot, candidates, len(topics)), language),
        "also": language.gettext("Also this week") if weekly else language.gettext("Also today"),
        "why": _why(slot.schedule, local, language),
        "unsubscribe_url": _link(unsubscribe_url),
        "preferences_url": _link(preferences_url),
        "view_url": _link(view_url),
        "feedback": feedback,
    }
    return {**words, "notes": "\n".join(notes)} if any(notes) else words


def account_words(
    templates: Templates, kind: str, *, locale: str, url: str, **more: str
) -> dict[str, str]:
    """See `Renderer.account_words`."""
    language = locales.language(locale)
    subject = templates.render(f"email/{kind}/subject.txt", language=language)
    return {
        "locale": language.tag,
        "subject": shorten(one_line(subject), LONGEST_SUBJECT),
        "preheader": "",
        "url": _link(url),
        **more,
    }


@lru_cache(maxsize=1024)
def _subject(templates: Templates, title: str, more: int, language: Language) -> str:
    subject = templates.render(
        "email/digest/subject.txt",
        language=language,
        title=title,
        more=more,
        limit=LONGEST_SUBJECT,
    )
    return shorten(one_line(subject), LONGEST_SUBJECT)


def _preheader(best: Entry, titles: Sequence[str]) -> str:
    """What an inbox shows beside the subject: the next titles, or what the only paper says."""
    text = " · ".join(titles[1:4]) if len(titles) > 1 else plain(summary(best))
    return shorten(text, LONGEST_PREHEADER)


@lru_cache(maxsize=4096)
def _date_line(day: date, topics: tuple[str, ...], language: Language) -> str:
    return wrap(glued(words.date_line(day, topics, language=language)))


@lru_cache(maxsize=4096)
def _lead(facts: words.Facts, language: Language) -> str:
    return wrap(glued(words.lead(facts, language=language)))


def _why(schedule: Schedule, since: date, language: Language) -> str:
    # Equal but for when each began, which differs from one to the next and is not said.
    rhythm = (schedule.zone, schedule.hour, schedule.frequency, schedule.weekday)
    return _usual_why(rhythm, since, language)


@lru_cache(maxsize=4096)
def _usual_why(
    rhythm: tuple[str, int, Frequency, int | None], since: date, language: Language
) -> str:
    zone, hour, frequency, weekday = rhythm
    schedule = Schedule(since=_EVER, zone=zone, hour=hour, frequency=frequency, weekday=weekday)
    return wrap(glued(words.subscription(schedule, since, language=language)))


def _facts(entries: Sequence[Entry], slot: Slot, candidates: int, topics: int) -> words.Facts:
    votes = sorted([entry.paper.signals.get("upvotes", 0) for entry in entries], reverse=True)
    matched: dict[str, int] = {}
    for entry in entries:
        for reason in entry.reasons:
            if reason.kind == "topic":
                for name in reason.args:
                    matched[str(name)] = matched.get(str(name), 0) + 1
    topic = max(sorted(matched), key=matched.__getitem__, default="")
    return words.Facts(
        count=len(entries),
        candidates=candidates,
        day=slot.date,
        weekly=slot.schedule.frequency is Frequency.WEEKLY,
        votes=votes[0],
        next_votes=votes[1] if len(votes) > 1 else 0,
        topic=topic,
        topic_count=matched.get(topic, 0),
        topics=topics,
    )


def _link(url: str) -> str:
    if not web_url(url):
        raise ValueError("a link of the mail is no http or https URL")
    return url
