"""The tables, for SQLite and PostgreSQL alike.

What must never happen twice is a unique key; what must happen is a row with a state. The columns
for workers, claims, providers and content-addressed parts are those of the delivery ledger.
"""

from __future__ import annotations

from digest.schema.base import COUNTED, Instant, metadata
from digest.schema.ledger import (
    account_mail,
    attempt,
    bounce,
    delivery,
    digest,
    domain,
    part,
    route,
    worker,
)
from digest.schema.operations import (
    alert,
    gap,
    house,
    run,
)
from digest.schema.papers import (
    identifier,
    merge,
    paper,
    record,
    signal,
    source,
    source_run,
)
from digest.schema.people import (
    feedback,
    follow,
    interest,
    schedule,
    search,
    search_follow,
    subscriber,
    suppression,
    topic,
)

__all__ = [
    "COUNTED",
    "Instant",
    "account_mail",
    "alert",
    "attempt",
    "bounce",
    "delivery",
    "digest",
    "domain",
    "feedback",
    "follow",
    "gap",
    "house",
    "identifier",
    "interest",
    "merge",
    "metadata",
    "paper",
    "part",
    "record",
    "route",
    "run",
    "schedule",
    "search",
    "search_follow",
    "signal",
    "source",
    "source_run",
    "subscriber",
    "suppression",
    "topic",
    "worker",
]
