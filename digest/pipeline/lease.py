"""A worker's lease: its heartbeat, and whether its word is good for long enough to send."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from digest.pipeline.books import BEAT, LEASE, Books, Standing, uptime

log = logging.getLogger(__name__)

# No content leaves when the last heartbeat is older: a third of the lease is kept for the way.
_FRESH = LEASE.total_seconds() * 2 / 3


class Lease:
    """Kept from a thread of its own, whatever the connections do."""

    def __init__(
        self,
        books: Books,
        standing: Standing,
        *,
        beaten: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        """Both are called from that thread; after `failed` there is no lease any more."""
        self._books, self._tell, self._failed = books, beaten, failed
        self.standing = standing
        self._beaten = uptime()
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @property
    def is_fresh(self) -> bool:
        """Whether it is good for long enough to send a content."""
        return not self._lost and uptime() - self._beaten < _FRESH

    def start(self) -> None:
        """Begin to beat; the worker has just entered."""
        self._thread.start()

    def end(self) -> None:
        """Stop beating, and wait until that is so."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(BEAT):
            at = uptime()
            try:
                self.standing = self._books.beat()
            except SQLAlchemyError as error:
                log.warning(
                    "No heartbeat: %s",
                    str(error).partition("\n")[0],
                    extra={"action": "heartbeat"},
                )
            except Exception as error:  # noqa: BLE001 - raised by the worker, which has to end
                self._lost = True
                self._failed(error)
                return
            else:
                self._beaten = at
                self._tell()
