"""Templates and styles become parts: Jinja writes, premailer lays the styles into the tags.

premailer costs a hundred times what filling a template costs. So all new cards of a call stand in
one document and it runs once; the parts are cut from its tree, not from its text, because a
paper's title could imitate any mark in the text. What was made is kept by its content's hash:
the next pass over the same papers makes nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import lxml.html

from digest import locales, message
from digest.errors import TemplateError
from digest.locales import Language
from digest.models import Part, Reason, Site, Slot, Subscriber
from digest.rendering import words
from digest.rendering.card import Entry, View, view
from digest.rendering.parts import HERE, NOTE
from digest.rendering.personal import account_words, personal_words
from digest.rendering.templating import Templates

KEPT = 8192  # cards; one takes 5 KB
_ACTS = "h" + "0" * 64  # stands for a mail's own words in what is no card


class Renderer:
    """The templates of a directory, in every language, for one site; remembers `most` cards.

    Raises TemplateError, which names the file, for a template that is missing or does not
    compile.
    """

    def __init__(self, templates: Path, site: Site, *, most: int = KEPT) -> None:
        self._templates, self._site = Templates(templates, site), site
        self._skeletons: dict[tuple[str, str], Part] = {}
        # What can be done with a paper is the same for all, but for a topic to mute: in each card
        # anew it would be a sixth of what making them costs.
        self._acted: dict[str, list[str]] = {}
        self._most = most
        self._cards: dict[str, Part] = {}  # by hash; what was asked for last stands last

    def cards(self, entries: Sequence[Entry], *, locale: str) -> list[Part]:
        """A part for each entry, in order; what has the same content is rendered once."""
        language = locales.language(locale)
        views = [view(entry, language=language) for entry in entries]
        keys = [
            self._card_key(entry, shown, language=language)
            for entry, shown in zip(entries, views, strict=True)
        ]
        parts = {key: self._cards[key] for key in keys if key in self._cards}
        new = {
            key: (_name(entry), shown)
            for key, entry, shown in zip(keys, entries, views, strict=True)
            if key not in parts
        }
        html = self._card_html(new, language=language)
        parts |= {
            key: Part(
                hash=key,
                kind="card",
                html=_marked(html[number], key)
                .replace(_marks(key)["acts"], self._acted[language.tag][shown["mutes"]])
                .encode(),
                text=_marked(
                    self._templates.render(
                        f"{name}.txt", language=language, card=shown, **_marks(key)
                    ).strip(),
                    key,
                ).encode(),
            )
            for number, (key, (name, shown)) in enumerate(new.items())
        }
        self._keep(parts)
        return [parts[key] for key in keys]

    def _keep(self, parts: Mapping[str, Part]) -> None:
        for key, part in parts.items():
            self._cards.pop(key, None)
            self._cards[key] = part
        for old in list(islice(self._cards, max(0, len(self._cards) - self._most))):
            self._cards.pop(old, None)

    def skeleton(self, kind: str = "digest", *, locale: str) -> Part:
        """The mail around the papers, with places for the personal words."""
        language = locales.language(locale)
        if (kind, language.tag) not in self._skeletons:
            root = self._inlined(
                self._templates.render(f"email/{kind}/body.html", language=language)
            )
            html = lxml.html.tostring(root, encoding="unicode", doctype="<!DOCTYPE html>")
            head = message.head(self._site)
            self._skeletons[kind, language.tag] = Part(
                hash=self._hash(kind, repr(self._site), head.decode(), language=language),
                kind="skeleton",
                head=head,
                html=_folded(html).encode(),
                text=self._templates.render(f"email/{kind}/body.txt", language=language).encode(),
            )
        return self._skeletons[kind, language.tag]

    def personal(
        self,
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
        """The words that only this mail has, to be frozen with it; as plain text, JSON-ready.

        `entries` are those that fit, best first, at least one; `topics` the names that the
        subscriber follows; `feedback` the token of its links about papers; `notes` what `notes`
        made. The subject is the best paper's title: nobody gets a paper twice, so
        no two mails to one person share it, and no mail program threads them together.
        """
        return personal_words(
            self._templates,
            entries,
            subscriber=subscriber,
            slot=slot,
            candidates=candidates,
            topics=topics,
            unsubscribe_url=unsubscribe_url,
            preferences_url=preferences_url,
            view_url=view_url,
            feedback=feedback,
            notes=notes,
        )

    def account_words(self, kind: str, *, locale: str, url: str, **more: str) -> dict[str, str]:
        """The words that only this mail has which answers somebody; `url` is its one link."""
        return account_words(self._templates, kind, locale=locale, url=url, **more)

    def notes(self, reasons: Sequence[Sequence[Reason]], *, locale: str) -> list[str]:
        """In words, of each paper, the reasons that are this reader's alone; on one line each."""
        language = locales.language(locale)
        return [_note(tuple(mine), language) if mine else "" for mine in reasons]

    def _card_html(self, views: Mapping[str, tuple[str, View]], *, language: Language) -> list[str]:
        rows = [
            self._templates.render(f"{name}.html", language=language, card=shown, **_marks(key))
            for key, (name, shown) in views.items()
        ]
        if not rows:
            return []
        style = self._templates.render("email/style.css", language=language)
        acts = [] if language.tag in self._acted else self._acts(language)
        root = self._inlined(
            f"<!DOCTYPE html><html><head><style>{style}</style></head>"
            f"<body><table>{''.join(rows)}</table>{''.join(acts)}</body></html>"
        )
        if acts:
            made = [_written(one) for one in root.xpath("/html/body/p")]
            if len(made) != len(acts):
                raise TemplateError("email/digest/acts.html must make one paragraph.")
            self._acted[language.tag] = [one.replace(_ACTS, HERE) for one in made]
        found = root.xpath("/html/body/table/tr")
        if len(found) != len(rows):
            raise TemplateError(
                "email/digest/card.html and line.html must make one table row each."
            )
        return [_written(row) for row in found]

    def _acts(self, language: Language) -> list[str]:
        """What can be done with a paper, without and with a topic to mute."""
        return [
            self._templates.render(
                "email/digest/acts.html", language=language, here=_ACTS, mutes=mutes
            )
            for mutes in (False, True)
        ]

    def _card_key(self, entry: Entry, shown: View, *, language: Language) -> str:
        return self._hash(
            _name(entry),
            self._site.base_url,
            json.dumps(shown, sort_keys=True),
            language=language,
        )

    def _hash(self, *content: str, language: Language) -> str:
        whole = json.dumps([self._templates.version, language.tag, *content])
        return hashlib.sha256(whole.encode() + locales.catalogue(language.tag)).hexdigest()

    def _inlined(self, document: str) -> Any:
        """The document's tree with each rule of its style element in the tags that it names."""
        root = lxml.html.document_fromstring(document)
        # It takes a tenth of the time in which a process starts, and who only sends needs none.
        from premailer import Premailer  # noqa: PLC0415

        premailer = Premailer(
            root,
            allow_network=False,
            strip_important=False,  # what only client.css can say must outweigh what is inlined
            disable_basic_attributes=["align", "bgcolor", "height", "valign", "width"],
            cssutils_logging_level=logging.CRITICAL,
        )
        return premailer.transform()


@lru_cache(maxsize=4096)  # many readers name the same paper
def _note(reasons: tuple[Reason, ...], language: Language) -> str:
    return words.why(reasons, language=language)


def _name(entry: Entry) -> str:
    return "email/digest/card" if entry.card else "email/digest/line"


def _marks(key: str) -> dict[str, str]:
    """What stands for a mail's own words while a card is rendered: nothing a paper can say.

    The key is the hash of all that the paper says, which it cannot foresee.
    """
    return {"here": f"h{key}", "note": f"n{key}", "acts": f"a{key}"}


def _marked(body: str, key: str) -> str:
    """The card with the marks that no text can hold."""
    marks = _marks(key)
    body = body.replace(HERE, "").replace(NOTE, "")
    return body.replace(marks["here"], HERE).replace(marks["note"], NOTE)


def _written(element: Any) -> str:
    return _folded(lxml.html.tostring(element, encoding="unicode", with_tail=False))


def _folded(html: str) -> str:
    """The HTML without the templates' indentation, which would cost a fifth of the size."""
    return re.sub(r"[ \t]*\n\s*", "\n", html)
