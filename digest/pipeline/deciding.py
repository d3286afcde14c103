"""Deciding: what becomes of a delivery after the server's answer, or without one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from digest.delivery import enhanced_code
from digest.errors import DeliveryError
from digest.models import Receipt, State
from digest.pipeline.books import Order
from digest.storage.ledger import POISON, Result

LOSSES = 3  # of the server with the same row in flight, while others get through
_PAUSE = timedelta(minutes=1)


def accepted(receipt: Receipt, order: Order, *, seconds: float, now: datetime) -> Result:
    """The server took it."""
    claim = order.claim
    # By their places, as most results are made here: names take twice as long.
    started_at, enhanced = now - timedelta(seconds=seconds), enhanced_code(receipt.text)
    return Result(
        claim.delivery_id,
        claim.claim,
        order.route_id,
        State.SENT,
        started_at,
        seconds,
        "",
        receipt.code,
        enhanced,
        receipt.text,
    )


def decide(
    error: DeliveryError,
    order: Order,
    *,
    seconds: float,
    retry: Sequence[timedelta],
    jitter: float,
    others_pass: bool,
    now: datetime,
) -> Result:
    """What becomes of a delivery after an error (design section 5; RFC 5321 section 4.5.4.1).

    `retry` holds the waits between attempts; the last one repeats until the delivery's time is
    up. `jitter` (0..1) spreads each by up to a tenth. `others_pass` tells that the server takes
    other messages: then one that it breaks off on again and again is the cause of it.
    """
    claim = order.claim
    refused = _result(
        order,
        state=State.FAILED,
        reason="refused",
        seconds=seconds,
        now=now,
        code=error.code,
        text=error.text,
    )
    refused = refused._replace(at_rcpt=error.at_rcpt)
    if error.unknown:
        return refused._replace(state=State.UNKNOWN, reason="no answer")
    if error.host:
        refused = refused._replace(lost=True)
        if not (others_pass and claim.losses + 1 >= LOSSES):
            # The server's trouble spends nobody's attempts.
            return refused._replace(
                state=State.DEFERRED if claim.attempts else State.PLANNED,
                reason="mail server",
                spent=False,
                next_attempt_at=now + _PAUSE,
            )
    elif error.permanent:
        return refused
    wait = retry[min(claim.attempts, len(retry) - 1)] * (1 + jitter / 10)
    if now + wait >= claim.give_up_at:
        return refused._replace(reason="gave up")
    return refused._replace(state=State.DEFERRED, reason="deferred", next_attempt_at=now + wait)


def unsent(order: Order, *, now: datetime) -> Result:
    """Its content did not leave after all, though its attempt had begun: nothing to remember."""
    result = _result(
        order,
        state=State.DEFERRED if order.claim.attempts else State.PLANNED,
        reason="",
        seconds=0.0,
        now=now,
        text="",
        spent=False,
        next_attempt_at=now,
    )
    return result._replace(tried=False)


def spoiled(order: Order, *, now: datetime) -> Result:
    """Its message cannot be made; nothing was attempted."""
    result = _result(
        order,
        state=State.FAILED,
        reason=POISON,
        seconds=0.0,
        now=now,
        text="The mail could not be put together; the log says why.",
        spent=False,
    )
    return result._replace(tried=False)


def _result(
    order: Order,
    *,
    state: State,
    seconds: float,
    now: datetime,
    text: str,
    reason: str = "",
    code: int | None = None,
    spent: bool = True,
    next_attempt_at: datetime | None = None,
) -> Result:
    return Result(
        delivery_id=order.claim.delivery_id,
        claim=order.claim.claim,
        route_id=order.route_id,
        state=state,
        reason=reason,
        started_at=now - timedelta(seconds=seconds),
        seconds=seconds,
        code=code,
        enhanced=enhanced_code(text),
        text=text,
        spent=spent,
        next_attempt_at=next_attempt_at,
    )
