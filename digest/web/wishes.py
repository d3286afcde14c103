"""What a reader's form says: from its fields to wishes and interests, mistakes by field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar
from zoneinfo import available_timezones

from starlette.datastructures import FormData

from digest import interests
from digest.cadence import check_zone
from digest.errors import ScheduleError
from digest.interests import SEARCHES, TOO_MANY, Refusal, read_search
from digest.locales import Language
from digest.models import (
    Detail,
    Frequency,
    Interest,
    InterestKind,
    Interests,
    QuietDay,
    Subscriber,
    Topic,
    Wishes,
)
from digest.web.forms import text

Choice = TypeVar("Choice", Frequency, Detail, QuietDay)
MOST_PAPERS = 50
LINES = {
    "authors": InterestKind.AUTHOR,
    "labs": InterestKind.LAB,
    "seeds": InterestKind.SEED,
    "words": InterestKind.MUTED_WORD,
}
_REGIONS = frozenset(
    {"Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe"}
    | {"Indian", "Pacific"}
)
_LONGEST = 60_000  # characters of one field: what is longer never arrives


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the form shows, and what is wrong with it; `written` is as typed, by field."""

    wishes: Wishes
    topics: Collection[str]  # slugs
    interests: Interests = field(default_factory=Interests)
    errors: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def lines(self, name: str) -> Sequence[str]:
        """A field of lines: as it was typed, else as it is stored."""
        if name in self.written:
            return self.written[name]
        if name == "searches":
            return self.interests.searches
        return [one.value for one in self.interests.kept if one.kind is LINES[name]]

    @property
    def muted(self) -> Collection[str]:
        """The topics that are muted, by slug."""
        return {o.value for o in self.interests.kept if o.kind is InterestKind.MUTED_TOPIC}


def stored(person: Subscriber, found: Interests | None = None) -> Asked:
    """What somebody chose so far."""
    wishes = Wishes(**{name: getattr(person, name) for name in Wishes.__dataclass_fields__})
    return Asked(wishes=wishes, topics=person.topics, interests=found or Interests())


def read_schedule(
    form: FormData, before: Asked, *, known: Collection[Topic], language: Language
) -> Asked:
    """When somebody wants it and about what; a field that is not there stays as it was."""
    wishes, errors = before.wishes, dict(before.errors)
    zone = text(form, "zone") or wishes.zone
    try:
        zone = check_zone(zone)
    except ScheduleError:
        errors["zone"] = language.gettext("There is no such time zone. Choose one from the list.")
        zone = wishes.zone
    hour = _number(text(form, "hour") or str(wishes.hour), 0, 23)
    if hour is None:
        errors["hour"] = language.gettext("Choose a whole hour.")
    frequency = _one_of(Frequency, text(form, "frequency") or wishes.frequency)
    if frequency is None:
        errors["frequency"] = language.gettext("Choose one of these.")
    weekday = _number(text(form, "weekday") or str(wishes.weekday or 0), 0, 6)
    if weekday is None:
        errors["weekday"] = language.gettext("Choose a day of the week.")
    slugs = {topic.slug for topic in known}
    topics = [str(slug) for slug in form.getlist("topic") if slug in slugs]
    chosen = frequency or wishes.frequency
    wishes = replace(
        wishes,
        zone=zone,
        hour=wishes.hour if hour is None else hour,
        frequency=chosen,
        weekday=(weekday or 0) if chosen is Frequency.WEEKLY else None,
    )
    return replace(before, wishes=wishes, topics=topics, errors=errors)


def read_all(
    form: FormData,
    before: Asked,
    *,
    known: Collection[Topic],
    languages: Collection[str],
    language: Language,
) -> Asked:
    """All preferences; what is wrong leaves its field as it was."""
    asked = read_schedule(form, before, known=known, language=language)
    wishes, errors = asked.wishes, dict(asked.errors)
    papers = _number(text(form, "max_papers"), 1, MOST_PAPERS)
    if papers is None:
        errors["max_papers"] = language.gettext("Enter a number from 1 to %(most)s.") % {
            "most": MOST_PAPERS
        }
    least = text(form, "min_score")
    score = _number(least, 0, 100) if least else None
    if least and score is None:
        errors["min_score"] = language.gettext("Enter a number from 0 to 100, or leave this empty.")
    detail = _one_of(Detail, text(form, "detail"))
    quiet = _one_of(QuietDay, text(form, "quiet_day"))
    locale = text(form, "locale")
    for name, choice in (("detail", detail), ("quiet_day", quiet)):
        if choice is None:
            errors[name] = language.gettext("Choose one of these.")
    if locale not in languages:
        errors["locale"] = language.gettext("Choose one of these.")
        locale = wishes.locale
    wishes = replace(
        wishes,
        max_papers=papers or wishes.max_papers,
        min_score=None if score is None else score / 100,
        detail=detail or wishes.detail,
        quiet_day=quiet or wishes.quiet_day,
        plain=text(form, "plain") == "yes",
        locale=locale,
    )
    written = {name: _lines(form, name) for name in (*LINES, "searches")}
    kept, searches = _interests(written, errors, language)
    slugs = {topic.slug for topic in known}
    kept += [
        Interest(kind=InterestKind.MUTED_TOPIC, value=slug, key=slug)
        for slug in dict.fromkeys(map(str, form.getlist("muted")))
        if slug in slugs
    ]
    found = replace(before.interests, kept=tuple(kept), searches=tuple(searches))
    return replace(asked, wishes=wishes, interests=found, errors=errors, written=written)


def _interests(
    written: Mapping[str, Sequence[str]], errors: dict[str, str], language: Language
) -> tuple[list[Interest], list[str]]:
    kept: list[Interest] = []
    for name, kind in LINES.items():
        mine: dict[str, Interest] = {}
        for line in written[name]:
            read = interests.read(kind, line)
            if isinstance(read, Refusal):
                errors.setdefault(name, _said(line, read, language))
            else:
                mine.setdefault(read.key, read)
        if len(mine) > interests.MOST:
            refusal = Refusal(sentence=TOO_MANY, values={"most": interests.MOST})
            errors.setdefault(name, _said("", refusal, language))
        kept += mine.values()
    searches: dict[str, None] = {}
    for line in written["searches"]:
        search = read_search(line)
        if isinstance(search, Refusal):
            errors.setdefault("searches", _said(line, search, language))
        else:
            searches[search] = None
    if len(searches) > SEARCHES:
        refusal = Refusal(sentence=TOO_MANY, values={"most": SEARCHES})
        errors.setdefault("searches", _said("", refusal, language))
    return kept, list(searches)


def _said(line: str, refusal: Refusal, language: Language) -> str:
    sentence = refusal.said(language.gettext)
    if not line:
        return sentence
    named = language.gettext("%(label)s:") % {"label": line[:60]}
    return language.gettext("%(first)s %(second)s") % {"first": named, "second": sentence}


def _lines(form: FormData, name: str) -> list[str]:
    written = text(form, name, most=_LONGEST)
    return [line.strip() for line in written.splitlines() if line.strip()]


def _number(written: str, least: int, most: int) -> int | None:
    if not (written.isascii() and written.isdigit() and len(written) < 6):
        return None
    return int(written) if least <= int(written) <= most else None


def _one_of(kind: type[Choice], written: str) -> Choice | None:
    try:
        return kind(written)
    except ValueError:
        return None


@cache
def zones() -> Sequence[str]:
    """The time zones to choose from: those of places, and UTC."""
    places = {zone for zone in available_timezones() if zone.partition("/")[0] in _REGIONS}
    return ("UTC", *sorted(places))
