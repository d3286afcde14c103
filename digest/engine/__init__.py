"""Who does the work: this process, or on PostgreSQL any number of workers, who take it as jobs.

The clock is the same in both. It tells its `Duties` when it is time for something; what is to be
done then, the database knows.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from sqlalchemy.exc import (
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
)
from sqlalchemy.exc import (
    TimeoutError as PoolTimeout,
)

from digest.engine.here import Here
from digest.errors import Busy, DigestError
from digest.pipeline.books import Relay
from digest.pipeline.readiness import Pulse
from digest.services import Services
from digest.storage.database import said

T = TypeVar("T")
log = logging.getLogger(__name__)


class Duties(Protocol):
    """What the clock asks for, again and again: to do it here, or to have it done."""

    def begin(self) -> None:
        """Read the sources if that was not done lately."""

    def collect(self) -> None:
        """Read the sources."""

    def plan(self) -> None:
        """Freeze the digests that are due."""

    def deliver(self) -> bool | None:
        """Send what is due; True when what was under way was cut off."""

    def look_up(self) -> None:
        """Ask the DNS who receives subscribers' mail."""

    def watch(self) -> None:
        """Tell the operator what is wrong."""

    def clean_up(self) -> None:
        """Forget what is older than the retention."""

    def end(self) -> None:
        """Begin nothing new; when told again, end at once what is being sent."""


def is_shared(services: Services) -> bool:
    """Whether workers on many machines can share the work: SQLite belongs to one process."""
    return services.engine.dialect.name == "postgresql"


@contextmanager
def duties(services: Services) -> Iterator[Duties]:
    """How the work is done with this database, while the block runs."""
    if is_shared(services):
        from digest.engine.jobs import Deferring, deferrer  # noqa: PLC0415 - an extra's package

        with deferrer(services) as app:
            yield Deferring(services, app)
    else:
        with sending(services) as relays:
            yield Here(services, relays)


@contextmanager
def sending(services: Services) -> Iterator[Sequence[Relay]]:
    """The mail servers, for a process that sends while the block runs; the log names them."""
    with services.relays() as relays:
        names = ", ".join(relay.name for relay in relays)
        inbox = f"the local inbox at {services.settings.base_url}/inbox/"
        log.info("Mail goes to %s.", inbox if services.inbox else names, extra={"action": "start"})
        yield relays


def guarded(name: str, work: Callable[[], T], pulse: Pulse) -> Callable[[], T | None]:
    """The work, but what a person can mend is logged: the next time finds the process alive."""

    def tried() -> T | None:
        found = None
        try:
            found = work()
        except Busy as error:  # another process is at it
            log.info("%s: %s", name, error, extra={"action": name})
        except DigestError as error:
            log.error("%s: %s", name, error, extra={"action": name})
            return None
        except _outages() as error:
            words = "%s: the database cannot be used now: %s"
            log.error(words, name, said(error), extra={"action": name})
            return None
        pulse.beat(name)
        return found

    return tried


def _outages() -> tuple[type[Exception], ...]:
    """What is raised while the database is away; asked only when something was raised.

    Wrong SQL, and rows that a constraint refuses, are bugs: they stay loud.
    """
    found = [OperationalError, InterfaceError, InternalError, PendingRollbackError, PoolTimeout]
    # An extra's package: who has not loaded it cannot have raised it.
    if exceptions := sys.modules.get("procrastinate.exceptions"):
        found.append(exceptions.ConnectorException)
    return tuple(found)
