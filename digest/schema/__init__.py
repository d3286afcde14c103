"""The tables, for SQLite and PostgreSQL alike.

What must never happen twice is a unique key; what must happen is a row with a state. The columns
for workers, claims, providers and content-addressed parts are those of the delivery ledger.
"""

from __future__ import annotations

from digest.schema.accounts import consent, quota, request, ticket
from digest.schema.base import COUNTED, Instant, metadata
from digest.schema.index import (
    indexed,
    indexed_text,
    term,
)
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
    "consent",
    "delivery",
    "digest",
    "domain",
    "feedback",
    "follow",
    "gap",
    "house",
    "identifier",
    "indexed",
    "indexed_text",
    "interest",
    "merge",
    "metadata",
    "paper",
    "part",
    "quota",
    "record",
    "request",
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
    "term",
    "ticket",
    "topic",
    "worker",
]
