"""Pages as they once were, served again beside the living ones, to be looked at in any way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from digest.web.build import build
from digest.web.server import WebServer, listen
from tests.local_house import LocalHouse
from tests.tour import Stop


@contextmanager
def album(house: LocalHouse, stops: Sequence[Stop]) -> Iterator[str]:
    """Serve each stop at `/album/<its number>` while the block runs; the server's address.

    What a page loads, and what its forms ask for, the house answers.
    """
    web = build(house.services)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == "/favicon.ico":  # asked for beside a mail, which names none
            await Response(status_code=204)(scope, receive, send)
            return
        if not path.startswith("/album/"):
            await web(scope, receive, send)
            return
        stop = stops[int(path.removeprefix("/album/"))]
        if scope["method"] == "GET":
            answer = Response(stop.body, headers=stop.headers, media_type="text/html")
            await answer(scope, receive, send)
        else:
            await web({**scope, "path": stop.path.partition("?")[0]}, receive, send)

    with WebServer(app, listen("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.port}"
