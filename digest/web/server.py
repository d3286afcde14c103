"""The web server, in a thread of its own, beside whatever else the process does."""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from digest.errors import Busy, SettingsError

SEARCHED = 50  # ports
PATIENCE = 5  # seconds that open requests have to end in
# Seconds that a connection without a request stays open. A proxy has to be the one that closes it,
# or a form that it sends on at that very moment has no answer; Caddy does after two minutes.
KEEP_ALIVE = 130

log = logging.getLogger(__name__)


def listen(
    host: str, port: int, *, search: bool = False, setting: str = "DIGEST_WEB_PORT"
) -> socket.socket:
    """A listening socket at `host`:`port`, or with `search` at the next free port.

    `setting` is where the port was written.
    It is made apart from the server, so that the port is known before the pages' base URL is.
    Raises Busy when the port is taken, SettingsError when the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + SEARCHED, 65536) if search else port + 1):
        try:
            listener = socket.create_server((host, candidate), family=family, backlog=512)
            # Taken over by what it accepts. asyncio does so only for sockets that name their
            # protocol; else an answer's second part waits 40 ms for the first one's ACK.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listener
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                why = os.strerror(error.errno) if error.errno else str(error)
                raise SettingsError(f"Cannot listen on {host}, port {candidate}: {why}.") from error
    taken = f"the ports from {port} on are" if search else f"port {port} is"
    raise Busy(f"On {host} {taken} taken by another program. Stop it, or set {setting}.")


class WebServer:
    """Serves `app` while its `with` block runs; `port` is where, `name` what the log calls it."""

    def __init__(
        self, app: ASGIApp, listener: socket.socket, *, name: str = "The pages are"
    ) -> None:
        self._listener, self._name = listener, name
        self.port: int = listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,  # it writes tokens; ours does not
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=PATIENCE,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="web", daemon=True
        )

    def __enter__(self) -> Self:
        # What is there by now stays. To look for cycles among it, every few hundred pages, stops
        # all of them for 120 ms.
        gc.collect()
        gc.freeze()
        self._thread.start()
        log.info("%s served.", self._name, extra={"action": "web.open", "port": self.port})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()
        gc.unfreeze()
