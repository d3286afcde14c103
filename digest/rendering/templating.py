"""The mail's templates: read once, filled in any language.

They are read when the program starts and not again, so that what is rendered is always what the
version says, whatever somebody is editing meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2

from digest import locales
from digest.errors import TemplateError
from digest.locales import Language
from digest.models import Site
from digest.rendering.parts import INDENT
from digest.rendering.prose import WIDTH, Run, glued, one_line, plain, shorten, wrap

FOLDER = "email"
RULE = 36  # columns: of the text body one that fits a phone, where a longer one breaks in two
NEEDED = (
    "email/base.html",
    "email/client.css",
    "email/style.css",
    "email/digest/subject.txt",
    "email/digest/body.txt",
    "email/digest/body.html",
    "email/digest/card.txt",
    "email/digest/card.html",
    "email/digest/acts.html",
    "email/digest/line.txt",
    "email/digest/line.html",
    "email/account.html",
    "email/account.txt",
    *(
        f"email/{kind}/{file}"
        for kind in ("confirm", "preferences", "change-old", "change-new", "export", "erase")
        for file in ("subject.txt", "body.txt", "body.html", "words.txt")
    ),
)
# What the look of a part depends on beside the templates.
LIBRARIES = ("jinja2", "premailer", "cssutils", "lxml")


class Templates:
    """The templates of a directory for one site.

    Raises TemplateError, which names the file, for a template that is missing or does not
    compile. `version` changes with every file of the mail and with the libraries.
    """

    def __init__(self, directory: Path, site: Site) -> None:
        self._directory, self._site = directory, site
        self._sources = {
            path.relative_to(directory).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted((directory / FOLDER).rglob("*.*"))
        }
        self._environments: dict[str, jinja2.Environment] = {}
        made_by = [(name, version(name)) for name in LIBRARIES]
        self.version = hashlib.sha256(repr((made_by, self._sources)).encode()).hexdigest()
        for name in NEEDED:
            self._template(name, language=locales.language(locales.SOURCE))

    def render(self, name: str, *, language: Language, **values: Any) -> str:
        """The template filled with `values`; TemplateError where one is missing."""
        template = self._template(name, language=language)
        try:
            return template.render(values)
        except jinja2.TemplateError as error:
            raise TemplateError(f"{self._directory / name} does not render: {error}") from error

    def _template(self, name: str, *, language: Language) -> jinja2.Template:
        if language.tag not in self._environments:
            self._environments[language.tag] = self._environment(language)
        try:
            return self._environments[language.tag].get_template(name)
        except jinja2.TemplateNotFound as error:
            raise TemplateError(
                f"{self._directory / (error.name or name)} is missing;"
                " DIGEST_TEMPLATES_DIR names the directory."
            ) from error
        except jinja2.TemplateSyntaxError as error:
            where = self._directory / (error.name or name)
            raise TemplateError(f"{where}, line {error.lineno}: {error.message}") from error

    def _environment(self, language: Language) -> jinja2.Environment:
        environment = jinja2.Environment(
            loader=jinja2.DictLoader(self._sources),
            autoescape=jinja2.select_autoescape(["html"], default=False),
            undefined=jinja2.StrictUndefined,
            extensions=["jinja2.ext.i18n"],
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.policies["ext.i18n.trimmed"] = True
        install = environment.install_gettext_translations  # type: ignore[attr-defined]
        install(language.translations, newstyle=True)
        environment.globals |= {
            "site": self._site,
            "lang": language.tag,
            "direction": language.direction,
            "rule": "-" * RULE,
        }
        environment.filters |= {
            "glued": _glued,
            "one_line": one_line,
            "plain": plain,
            "shorten": shorten,
            "translated": language.gettext,
            "unbroken": lambda text: text.replace(" ", "\u00a0"),
            "wrap": wrap,
            "wrap_card": lambda text: wrap(text, WIDTH - INDENT),
        }
        return environment


def _glued(pieces: Sequence[Run]) -> list[Run]:
    """The runs of a text that was glued as a whole: that changes no length."""
    rest = iter(glued(plain(pieces)))
    return [("".join(islice(rest, len(text))), marked) for text, marked in pieces]
