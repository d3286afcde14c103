"""Forms that people post: only our own are taken, read once, and never by GET."""

from __future__ import annotations

import re

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request

from digest.errors import AddressError
from digest.locales import SOURCE, Language

_UNHELD = re.compile("[\x00\ud800-\udfff]")
_CHARSET = re.compile(rb";\s*charset\s*=[^;]*", re.IGNORECASE)
FIELDS = 500  # of one form: a preference for each of many topics


async def posted(request: Request, *, base_url: str) -> FormData:
    """The form's fields; 403 for one from another site, 400 for what is no form.

    Browsers say where a form was (Fetch Metadata, W3C); older ones name at least the origin. A
    program without a browser says neither: it carries nobody's cookies, so there is nothing to
    steal.
    """
    if not is_ours(request, base_url=base_url):
        raise HTTPException(403)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        raise HTTPException(400)
    return await fields(request, most=FIELDS)


async def fields(request: Request, *, most: int) -> FormData:
    """The fields of a form in either encoding; no files.

    Whatever charset it names, it is read as UTF-8: browsers name none, and Python knows some that
    take long, or make half characters.
    """
    headers = [
        (name, _CHARSET.sub(b"", value) if name == b"content-type" else value)
        for name, value in request.scope["headers"]
    ]
    plain = Request({**request.scope, "headers": headers}, request.receive)
    return await plain.form(max_files=0, max_fields=most)


def is_ours(request: Request, *, base_url: str) -> bool:
    """Whether a form was posted from our own page, as far as the browser says."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    return request.headers.get("origin") in (None, base_url)


def text(form: FormData, name: str, *, most: int = 1_000) -> str:
    """A field's text without blanks around it; empty where it is not there.

    400 beyond `most` characters. What no browser sends, and not every database can hold, becomes
    U+FFFD.
    """
    value = form.get(name, "")
    if not isinstance(value, str) or len(value) > most:
        raise HTTPException(400)
    return _UNHELD.sub("\ufffd", value.strip())


def natural(written: str) -> int | None:
    """The number that is written; None for another text, and for more than a database holds."""
    return int(written) if len(written) < 19 and written.isascii() and written.isdigit() else None


def refused(error: AddressError, language: Language) -> str:
    """Why an address is not taken: what exactly is wrong is known in English only."""
    if language.tag == SOURCE:
        return str(error)
    return language.gettext("Mail cannot be sent to this address. Check the spelling.")
