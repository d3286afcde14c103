"""How a page is made: the services that handlers share, and the templates with their filters."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from babel.dates import format_date, format_interval, format_time, get_datetime_format
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import HTMLResponse

from digest.errors import TemplateError
from digest.inbox import keys
from digest.locales import SOURCE, Language, available, begun, language, own_name
from digest.pipeline.accounts import Accounts, Opened, opened
from digest.pipeline.drafting import Plan
from digest.rendering.prose import one_line, plain
from digest.tokens import Purpose
from digest.web import DAILY_PAPERS, WebSite
from digest.web.client import client_address
from digest.web.languages import nearest, preferred
from digest.web.origin import from_here
from digest.web.periods import Period

# A mail is a document of its own: no script, nothing from the network, in nobody else's frame.
MAIL_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    " sandbox allow-popups allow-popups-to-escape-sandbox; frame-ancestors 'self'"
)


# Behind these nobody is subscribed: another link comes to who asks as if for the first time.
_BY_ASKING_ANEW = ("/confirm/", "/choose/", "/undo/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file of templates/web/static, under an address that changes with its content."""

    path: str
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """What a handler may use."""

    accounts: Accounts
    plan: Plan
    site: WebSite
    environments: Mapping[str, Environment]  # by the tag of their language
    assets: Mapping[str, Asset]

    @property
    def engine(self) -> Engine:
        return self.accounts.engine

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: object
    ) -> HTMLResponse:
        """The response that a template of templates/web makes of `values`."""
        inbox = self.inbox_of(request)
        tag = self._tag(request)
        content = (
            self.environments[tag]
            .get_template(template)
            .render(
                site=self.site,
                language=language(tag),
                assets=self.assets,
                mails=None if inbox is None else len(keys(inbox)),
                me=getattr(request.state, "me", ""),
                **values,
            )
        )
        return HTMLResponse(content, status, {"Vary": "Accept-Language"})

    def language(self, request: Request) -> Language:
        """What the page speaks: the reader's, what its address asks for, the browser's, ours."""
        return language(self._tag(request))

    def _tag(self, request: Request) -> str:
        known = self.environments.keys()
        default = nearest(self.site.locale, known=known) or SOURCE
        wanted = (getattr(request.state, "locale", ""), request.query_params.get("lang", ""))
        asked = next(filter(None, (nearest(tag, known=known) for tag in wanted)), "")
        header = request.headers.get("accept-language", "")
        return asked or preferred(header, known=known, default=default)

    def inbox_of(self, request: Request) -> Path | None:
        """The local inbox, for a request that was made on this machine; None for all others."""
        return self.accounts.inbox if from_here(request) else None

    def client(self, request: Request) -> IPv4Address | IPv6Address:
        """Who asks, as far as proxies of ours say."""
        peer = request.client.host if request.client else "::1"  # a socket of this machine's
        forwarded = request.headers.getlist("x-forwarded-for")
        return client_address(peer, forwarded, self.site.trusted_proxies)

    def opened(self, request: Request, purpose: Purpose) -> Opened:
        """What the token in the path opens. Raises TokenError.

        From then on the page speaks its reader's language; a digest that was passed on, its
        visitor's.
        """
        found = opened(self.accounts, request.path_params["token"], purpose)
        if purpose is not Purpose.VIEW:
            request.state.locale = found.person.locale
        if purpose is Purpose.PREFERENCES:
            request.state.me = request.url.path
        return found


def bad_link(web: Web, request: Request, *, expired: bool) -> HTMLResponse:
    """What is said of a link that opens nothing, with the way to one that does, if it once did."""
    anew = request.url.path.startswith(_BY_ASKING_ANEW)
    return web.page(
        request,
        "bad_link.html",
        status=410 if expired else 404,
        expired=expired,
        anew=anew,
        errors={},
    )


def load_templates(folder: Path) -> dict[str, Environment]:
    """The templates of `folder` in each language that has words. Raises TemplateError."""
    if not (folder / "base.html").is_file():
        raise TemplateError(f"There are no page templates in {folder}: base.html is missing.")
    return {tag: _environment(folder, language=language(tag)) for tag in sorted(available())}


def paper_path(name: str) -> str:
    """Where the page of a paper is."""
    return f"/p/{name}"


def _environment(folder: Path, *, language: Language) -> Environment:
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
        return begun(language.part(value, "MMMMEEEEd"))

    def short_date(value: date) -> str:
        return language.part(value, "MMMd")

    def month(value: date) -> str:
        return language.part(value, "yMMMM")

    def instant(value: datetime) -> str:
        day = format_date(value.astimezone(UTC), locale=language.formats)
        time = format_time(value, "short", tzinfo=UTC, locale=language.formats)
        return str(get_datetime_format("medium", language.formats)).format(time, day)

    @lru_cache(maxsize=1024)
    def heading(period: Period) -> str:
        if period.kind == "day":
            return begun(language.day(period.first, "full"))
        if period.kind == "month":
            return begun(month(period.first))
        last = period.end - timedelta(days=1)
        return format_interval(period.first, last, "yMMMd", locale=language.formats)

    def weekday(number: int) -> str:
        return begun(language.day(date(2024, 1, 1 + number), "EEEE"))  # 1 January 2024 was a Monday

    environment.globals["daily"] = DAILY_PAPERS
    environment.filters |= {
        "begun": begun,
        "city": language.city,
        "day": language.day,
        "heading": heading,
        "instant": instant,
        "joined": language.joined,
        "language_name": own_name,
        "listing": language.listing,
        "month": month,
        "number": language.number,
        "one_line": one_line,
        "path": paper_path,
        "plain": plain,
        "short_date": short_date,
        "short_day": short_day,
        "translated": language.gettext,
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
