"""Everything in this one process: no broker, no second machine. What SQLite wants."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from digest.pipeline.books import Relay
from digest.services import Services


class Here:
    """The duties, done by whoever asks for them."""

    def __init__(self, services: Services, relays: Sequence[Relay]) -> None:
        self._services = services
        self._postman = services.postman(relays)
        # What was due while nothing ran is planned from what the sources say now.
        self._read = threading.Event()

    def begin(self) -> None:
        try:
            if self._services.collect_is_due():
                self._services.collect()
        finally:
            self._read.set()

    def collect(self) -> None:
        self._services.collect()

    def plan(self) -> None:
        if self._read.is_set():
            self._services.plan_due()

    def deliver(self) -> bool:
        self._services.answer_requests()
        return self._postman.deliver().hard

    def look_up(self) -> None:
        self._services.look_up_domains()

    def watch(self) -> None:
        self._services.watch()

    def clean_up(self) -> None:
        self._services.clean_up()

    def end(self) -> None:
        self._postman.halt() if self._postman.is_stopped else self._postman.stop()
        self._services.stopping.set()
