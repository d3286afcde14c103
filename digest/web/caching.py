"""Conditional requests (RFC 9110, 13): who has the newest state gets none of it again."""

from __future__ import annotations

import hashlib
import re

from starlette.requests import Request
from starlette.responses import Response

_TAG = re.compile(r'(?:W/)?"[^"]*"')


def conditional(
    request: Request, response: Response, *, seconds: int, private: bool = False
) -> Response:
    """`response` with a tag of its content, or 304 without it where the request names that tag.

    Whoever has it may use it for `seconds` without asking; what is private nobody is to keep.
    """
    tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
    kept = {"ETag": tag, "Cache-Control": "no-store" if private else f"public, max-age={seconds}"}
    if "vary" in response.headers:
        kept["Vary"] = response.headers["vary"]
    asked = ", ".join(request.headers.getlist("if-none-match"))
    if asked.strip() == "*" or tag in {found.removeprefix("W/") for found in _TAG.findall(asked)}:
        return Response(status_code=304, headers=kept)
    response.headers.update(kept)
    return response
