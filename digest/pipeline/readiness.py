"""Readiness: what keeps a process from doing its own part. Nobody else's troubles count.

The pages need the database alone: somebody who wants no more mail must be heard while the relay
or the scheduler is down. Whoever has duties answers for having been at them lately.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from digest.storage import migrating
from digest.storage.database import said

log = logging.getLogger(__name__)


def tables(engine: Engine) -> list[str]:
    """What is wrong with the database, in sentences; empty when nothing is."""
    try:
        problem = migrating.check(engine)
    except SQLAlchemyError as error:
        log.warning("The database does not answer: %s", said(error), extra={"action": "ready"})
        return ["The database does not answer."]
    return [problem] if problem else []


class Pulse:
    """When this process was last at each of its duties, by a clock that nobody sets."""

    def __init__(
        self, limits: Mapping[str, float], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`limits` are the seconds that may pass between two beats, by duty."""
        self._limits, self._clock = limits, clock
        self._last = dict.fromkeys(limits, clock())

    def beat(self, duty: str) -> None:
        """This duty is being done."""
        self._last[duty] = self._clock()

    def problems(self) -> list[str]:
        """The duties that were neglected, in sentences."""
        now = self._clock()
        silent = {duty: now - self._last[duty] for duty in self._limits}
        return [
            f"Nothing from `{duty}` for {silent[duty]:.0f} s; the limit is {limit:.0f} s."
            for duty, limit in self._limits.items()
            if silent[duty] > limit
        ]
