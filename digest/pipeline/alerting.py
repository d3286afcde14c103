"""Alerts: what an operator must hear of without looking, said once when it begins and ends.

The log says it at once. The mail is stored with the alert itself and goes the ledger's way, so it
waits when the relay is what is broken. The webhook is asked again each minute until it took it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import Connection, Engine

from digest import message
from digest.models import Part, Site
from digest.pipeline.accounts.limits import CONFIRMATION, SUSPICIOUS
from digest.pipeline.reporting import without_row
from digest.providers import provider_of
from digest.storage import account_mail, alerts, outcomes, quotas
from digest.storage.alerts import Alert, Matter
from digest.storage.database import exclusive, reading, writing

log = logging.getLogger(__name__)

_DAY = timedelta(days=1)
# A clock that is set back by less ends no alert: what began stays until it is mended. One that was
# farther off made alerts that were wrong themselves.
_STEP = timedelta(hours=2)
_PATIENCE = 10.0  # seconds for the webhook's answer
_SUBJECT = 255  # characters: what a matter is known by


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """When to speak, and to whom."""

    late_after: timedelta
    sources: Sequence[str]
    silence: timedelta = timedelta(hours=36)  # of a source: a weekend's empty answer is a good one
    webhook: str = ""
    mail: str = ""
    confirmations: int = 0  # mails an hour at which signing up stops; 0: it does not


def watch(
    engine: Engine,
    watching: Watch,
    *,
    site: Site,
    locks: Path,
    now: datetime,
    restored: str | None = None,
) -> None:
    """Look once, and tell what changed since the last look; Busy while another process does.

    `restored` is what is to be said of a database that was put back from a backup.
    """
    with exclusive(engine, "alerts", locks):
        with reading(engine) as connection:
            began = [alert.since for alert in alerts.current(connection)]
            seen_at = max([now, *(since for since in began if since <= now + _STEP)])
            matters = list(_matters(connection, watching, now=seen_at))
        if restored:
            matters.append(Matter(kind="restored", subject="", text=restored))
        with writing(engine) as connection:
            changed = alerts.settle(connection, matters, now=seen_at)
            if watching.mail:
                for alert in changed:
                    _mail(connection, alert, watching.mail, site=site, now=now)
        for alert in changed:
            log.log(
                logging.INFO if alert.ended_at else logging.ERROR,
                _sentence(alert),
                extra={"action": "alert", "kind": alert.kind, "subject": alert.subject},
            )
        _post(engine, watching.webhook, site=site, now=now)


def _matters(connection: Connection, watching: Watch, *, now: datetime) -> Iterator[Matter]:
    minutes = f"{watching.late_after.total_seconds() / 60:.0f} minutes"
    before = now - watching.late_after
    for late in outcomes.late(connection, due_before=before):
        tried = f", {late.tried:,} of them put off by a server" if late.tried else ""
        text = f"Digests of {late.slot} that have not left {minutes} after they were due:"
        yield Matter(
            kind="late",
            subject=str(late.slot),
            text=f"{text} {late.number:,}{tried}. See: digest status",
        )
    if (number := without_row(connection, start=before - _DAY, end=before)) > 0:
        text = f"Digests that are not planned {minutes} after they were due: {number:,}."
        yield Matter(kind="late", subject="not planned", text=f"{text} See: digest plan")
    for breaker in outcomes.breakers(connection):
        way = f"{breaker.relay} to {breaker.provider}" if breaker.provider else breaker.relay
        yield Matter(
            kind="breaker",
            subject=way[:_SUBJECT],
            text=f"Mail by {way} is stopped: {breaker.reason}",
        )
    hours = f"{watching.silence.total_seconds() / 3600:.0f} hours"
    for name in alerts.without_a_good_read(
        connection, watching.sources, since=now - watching.silence
    ):
        text = f"Nothing good was read from {name} for {hours}. See: digest status"
        yield Matter(kind="source", subject=name, text=text)
    if watching.confirmations:
        asked = quotas.most(connection, CONFIRMATION, window=quotas.HOUR, now=now)
        if asked >= watching.confirmations:
            fast = quotas.most(connection, SUSPICIOUS, window=quotas.DAY, now=now)
            text = (
                "So many people want to sign up that nobody can any more:"
                f" {asked:,} in an hour; {fast:,} in a day came faster than people type."
            )
            yield Matter(
                kind="signups",
                subject="",
                text=f"{text} If they are wanted: DIGEST_CONFIRMATIONS_HOURLY",
            )


def _sentence(alert: Alert) -> str:
    """What is said, on one line: the words may be a mail server's."""
    text = message.one_line(alert.text)
    if alert.ended_at is None:
        return text
    return f"Over, after {_lasted(alert.ended_at - alert.since)}: {text}"


def _lasted(time: timedelta) -> str:
    minutes = max(0, round(time.total_seconds() / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def _mail(connection: Connection, alert: Alert, address: str, *, site: Site, now: datetime) -> None:
    """Store the mail of an alert's beginning, or of its end: each has one."""
    over = alert.ended_at is not None
    request = f"{alert.id}:{'over' if over else 'open'}"
    identity = message.message_id("alert", request, sender_address=site.sender_address)
    personal = {
        **message.freeze(name="", address=address, date=now, message_id=identity),
        "subject": f"{site.name}: {'over' if over else 'alert'} ({alert.kind})",
        "lead": _sentence(alert),
    }
    account_mail.store(
        connection,
        "alert",
        request,
        skeleton=_skeleton(site),
        personal=personal,
        address=address,
        provider=provider_of(address, {}),
        subscriber_id=None,
        give_up_at=now + _DAY,
        now=now,
    )


def _skeleton(site: Site) -> Part:
    """The form of these mails: one paragraph, and where it comes from."""
    head = message.head(site)
    html = f"<!DOCTYPE html>\n<html><body><p>@@lead@@</p><p>{site.base_url}</p></body></html>"
    text = f"@@lead@@\n\n{site.base_url}\n"
    seed = b"\0".join([head, html.encode(), text.encode()])
    return Part(
        hash=hashlib.sha256(seed).hexdigest(),
        kind="skeleton",
        head=head,
        html=html.encode(),
        text=text.encode(),
    )


def _post(engine: Engine, webhook: str, *, site: Site, now: datetime) -> None:
    """Tell the webhook what it was not told; what it does not take is told the next time."""
    with reading(engine) as connection:
        untold = alerts.untold(connection)
    for alert in untold:
        if webhook and not _taken(webhook, alert, site=site):
            return
        with writing(engine) as connection:
            alerts.told(connection, alert.id, now=now)


def _taken(webhook: str, alert: Alert, *, site: Site) -> bool:
    body = {
        "text": f"{site.name}: {_sentence(alert)}",  # what chat programs show
        "kind": alert.kind,
        "subject": alert.subject,
        "since": alert.since.isoformat(),
        "ended_at": alert.ended_at.isoformat() if alert.ended_at else None,
        "base_url": site.base_url,
    }
    try:
        httpx.post(webhook, json=body, timeout=_PATIENCE).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Its words could hold the address, which is a secret.
        answer = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else ""
        log.warning(
            "The webhook did not take an alert (%s); it is asked again.",
            answer or type(error).__name__,
            extra={"action": "alert", "kind": alert.kind},
        )
        return False
    return True
