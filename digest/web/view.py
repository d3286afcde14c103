"""How a page is made: the services that handlers share, and the templates with their filters."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from babel.dates import format_date, format_skeleton, format_time
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import HTMLResponse

from digest.errors import TemplateError
from digest.inbox import keys
from digest.locales import Language
from digest.tokens import Claim, Purpose, verify
from digest.web import WebSite
from digest.web.origin import from_here


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file of templates/web/static, under an address that changes with its content."""

    path: str
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """What a handler may use."""

    engine: Engine
    site: WebSite
    secrets: Sequence[bytes]
    clock: Callable[[], datetime]
    inbox: Path | None  # local mode's Maildir
    unsubscribe: Callable[[int], object]
    language: Language
    environment: Environment
    assets: Mapping[str, Asset]

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: object
    ) -> HTMLResponse:
        """The response that a template of templates/web makes of `values`."""
        inbox = self.inbox_of(request)
        content = self.environment.get_template(template).render(
            site=self.site,
            language=self.language,
            assets=self.assets,
            mails=None if inbox is None else len(keys(inbox)),
            **values,
        )
        return HTMLResponse(content, status)

    def inbox_of(self, request: Request) -> Path | None:
        """The local inbox, for a request that was made on this machine; None for all others."""
        return self.inbox if from_here(request) else None

    def subject(self, request: Request, purpose: Purpose) -> int:
        """Whom the token in the path is about. Raises TokenError."""
        return self.claim(request, purpose).subject

    def claim(self, request: Request, purpose: Purpose) -> Claim:
        """What the token in the path says. Raises TokenError."""
        token = request.path_params["token"]
        return verify(token, purpose, secrets=self.secrets, now=self.clock())


def load_templates(folder: Path, *, language: Language) -> Environment:
    """The templates of `folder`, which speak `language`. Raises TemplateError."""
    if not (folder / "base.html").is_file():
        raise TemplateError(f"There are no page templates in {folder}: base.html is missing.")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_translations(  # type: ignore[attr-defined]
        language.translations, newstyle=True
    )

    def short_day(value: date) -> str:
        return format_skeleton("MMMMEEEEd", value, locale=language.formats)

    def instant(value: datetime) -> str:
        day = format_date(value.astimezone(UTC), locale=language.formats)
        return f"{day}, {format_time(value, 'short', tzinfo=UTC, locale=language.formats)}"

    def weekday(number: int) -> str:
        return language.day(date(2024, 1, 1 + number), "EEEE")  # 1 January 2024 was a Monday

    environment.filters |= {
        "city": language.city,
        "day": language.day,
        "instant": instant,
        "number": language.number,
        "short_day": short_day,
        "weekday": weekday,
    }
    return environment


def load_assets(folder: Path) -> dict[str, Asset]:
    """The files of `folder` by name."""
    found = {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        stamp = hashlib.sha256(content).hexdigest()[:12]
        media_type, _ = mimetypes.guess_type(file.name)
        found[file.name] = Asset(
            path=f"/static/{file.stem}.{stamp}{file.suffix}",
            content=content,
            media_type=media_type or "application/octet-stream",
        )
    return found
