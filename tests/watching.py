"""Looking at what goes on while mail is delivered, and at what arrived."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.sink import Sink


class Watching(Sink):
    """A sink that calls `look` with the recipients at each step, before it answers."""

    def __init__(self, look: Callable[[str, list[str]], None]) -> None:
        super().__init__()
        self.look = look

    def fault(self, step: str, *, recipients: list[str]) -> Any:
        self.look(step, recipients)
        return super().fault(step, recipients=recipients)


def wait_until(check: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def got(sink: Sink) -> Counter[str]:
    """How many mails each address was sent, confirmed or not."""
    return Counter(address for mail in sink.arrived for address in mail.recipients)
