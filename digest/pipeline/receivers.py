"""Receivers: ask the DNS who takes the mail of subscribers' domains, and tell planning.

Never in the way of planning: a domain that was not asked about yet is its own provider.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache
from pathlib import Path

from dns.resolver import Resolver
from sqlalchemy import Engine

from digest.providers import BY_DOMAIN, ask, provider_of
from digest.storage import domains
from digest.storage.database import exclusive, reading, writing

log = logging.getLogger(__name__)

MOST = 2000  # domains in one run
AT_ONCE = 32  # that are asked about


def receivers(engine: Engine) -> Callable[[str], str]:
    """Who receives mail for an address, by what is known when the first is asked about."""

    @cache
    def known() -> Mapping[str, str]:
        with reading(engine) as connection:
            return domains.known(connection)

    return lambda address: provider_of(address, known())


def look_up(
    engine: Engine,
    resolver: Resolver,
    *,
    locks: Path,
    stopping: threading.Event,
    now: datetime,
    most: int = MOST,
) -> int:
    """Ask about the domains that are not known, or were long ago; how many answers were stored.

    Busy while another process does.
    """
    with exclusive(engine, "look-up", locks):
        with reading(engine) as connection:
            due = domains.to_ask(connection, now=now, but_for=BY_DOMAIN, limit=most)

        def answer(domain: str) -> str | None:
            return None if stopping.is_set() else ask(resolver, domain)

        with ThreadPoolExecutor(AT_ONCE, "look-up") as pool:
            answers = zip(due, pool.map(answer, due), strict=True)
            found = {domain: provider for domain, provider in answers if provider is not None}
        if found and not stopping.is_set():
            # Where others are answered, a domain's own servers fail: what was known stays.
            found = {**due, **found}
        if found:
            with writing(engine) as connection:
                domains.store(connection, found, now=now)
    if found:
        log.info(
            "Asked the DNS who receives mail for %d domains.",
            len(found),
            extra={"action": "look-up", "domains": len(found)},
        )
    elif due and not stopping.is_set():
        log.warning(
            "The DNS does not answer. Until it does, a domain that is not known yet counts as a"
            " receiving provider of its own.",
            extra={"action": "look-up"},
        )
    return len(found)
