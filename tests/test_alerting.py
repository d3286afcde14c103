"""The operator is told what is wrong once, and once more when it is over."""

from __future__ import annotations

import email
import email.policy
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from digest import schema
from digest.models import Site, State
from digest.pipeline.alerting import Watch, watch
from digest.rendering.assembly import assemble
from digest.services import build
from digest.settings import Settings
from digest.storage import contents
from digest.storage.database import reading, writing
from tests.house import KEY
from tests.rows import DAY, HOUR, MINUTE, NOW, Rows

SITE = Site(
    name="Paper Digest",
    base_url="https://digest.example.org",
    sender_address="digest@example.org",
    list_id="digest.example.org",
)
LATE = (
    "Digests of 2026-05-28 that have not left 60 minutes after they were due: 1. See: digest status"
)
NOT_PLANNED = "Digests that are not planned 60 minutes after they were due: 1. See: digest plan"


@dataclass(slots=True)
class Tower:
    """Somebody who watches; `now` is the time, `told` what the log said, with its level."""

    rows: Rows
    locks: Path
    log: pytest.LogCaptureFixture
    now: datetime = NOW
    restored: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def look(self, *, after: timedelta = MINUTE) -> list[tuple[str, str]]:
        """Watch once more; what was told by the log."""
        self.now += after
        self.log.clear()
        watching = Watch(sources=("arxiv", "huggingface"), **{"late_after": HOUR, **self.settings})
        with self.log.at_level(logging.INFO, "digest.pipeline.alerting"):
            watch(
                self.rows.engine,
                watching,
                site=SITE,
                locks=self.locks,
                now=self.now,
                restored=self.restored,
            )
        return [(record.levelname, record.getMessage()) for record in self.log.records]

    def alerts(self) -> list[tuple[str, str, bool]]:
        """Kind, subject and whether it is over, of all there are."""
        found = self.rows.all(schema.alert)
        return [(row["kind"], row["subject"], row["ended_at"] is not None) for row in found]

    def change(self, table: Any, **values: Any) -> None:
        with writing(self.rows.engine) as connection:
            connection.execute(update(table).values(values))


@pytest.fixture
def tower(rows: Rows, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Tower:
    return Tower(rows, tmp_path / "locks", caplog)


@dataclass(slots=True)
class Hook:
    """A web hook: what it took, and the code that it answers with."""

    url: str = ""
    code: int = 200
    posted: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if found.code == 200:
                found.posted.append(body)
            self.send_response(found.code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        found.url = f"http://127.0.0.1:{server.server_port}/hooks/s3cret"
        yield found
        server.shutdown()


# ------------------------------------------------------------------ what is told


def _late(tower: Tower) -> Callable[[], object]:
    tower.rows.digest(NOW - HOUR, State.PLANNED)
    return lambda: tower.change(schema.delivery, state=State.SENT, ended_at=NOW)


def _not_planned(tower: Tower) -> Callable[[], object]:
    reader = tower.rows.subscriber(hour=11)
    return lambda: tower.rows.digest(NOW - HOUR, subscriber_id=reader)


def _breaker(tower: Tower) -> Callable[[], object]:
    tower.rows.route("mail.example", state="open", reason="12 of 20 were refused: 550 5.7.1 no")
    return lambda: tower.change(schema.route, state="closed")


def _source(tower: Tower) -> Callable[[], object]:
    tower.rows.read("arxiv", NOW - 37 * HOUR)
    tower.rows.read("huggingface", NOW - 35 * HOUR)
    tower.rows.read("feed:dropped", NOW - 99 * HOUR)
    return lambda: tower.change(schema.source, good_at=NOW)


def _never_read(tower: Tower) -> Callable[[], object]:
    tower.rows.read("arxiv", NOW - 37 * HOUR, good=False)
    tower.rows.read("huggingface", NOW - 35 * HOUR, good=False)
    return lambda: tower.change(schema.source, good_at=NOW)


def _restored(tower: Tower) -> Callable[[], object]:
    tower.restored = "It was put back. Run: digest restored"

    return lambda: setattr(tower, "restored", None)


TROUBLES = {
    "late": (_late, "late", "2026-05-28", LATE),
    "not planned": (
        _not_planned,
        "late",
        "not planned",
        NOT_PLANNED,
    ),
    "breaker": (
        _breaker,
        "breaker",
        "smtp.example.org to mail.example",
        "Mail by smtp.example.org to mail.example is stopped: 12 of 20 were refused: 550 5.7.1 no",
    ),
    "source": (
        _source,
        "source",
        "arxiv",
        "Nothing good was read from arxiv for 36 hours. See: digest status",
    ),
    "source, never": (
        _never_read,
        "source",
        "arxiv",
        "Nothing good was read from arxiv for 36 hours. See: digest status",
    ),
    "restored": (_restored, "restored", "", "It was put back. Run: digest restored"),
}


@pytest.mark.parametrize(("cause", "kind", "subject", "text"), TROUBLES.values(), ids=TROUBLES)
def test_each_trouble_is_told_when_it_begins_and_when_it_ends(
    tower: Tower,
    cause: Callable[[Tower], Callable[[], object]],
    kind: str,
    subject: str,
    text: str,
) -> None:
    assert tower.look(after=timedelta()) == []
    mend = cause(tower)
    assert tower.look(after=timedelta()) == [("ERROR", text)]
    assert tower.look() == []
    assert tower.alerts() == [(kind, subject, False)]
    mend()
    assert tower.look(after=9 * MINUTE) == [("INFO", f"Over, after 10 min: {text}")]
    assert tower.look() == []
    assert tower.alerts() == [(kind, subject, True)]


def _reader(tower: Tower) -> int:
    """Somebody whose digest is due now, and who had yesterday's."""
    reader = tower.rows.subscriber(hour=NOW.hour)
    tower.rows.digest(NOW - DAY, subscriber_id=reader)
    return reader


def test_what_is_not_late_yet_is_not_told(tower: Tower) -> None:
    tower.rows.digest(NOW, State.PLANNED, subscriber_id=_reader(tower))
    _reader(tower)
    assert tower.look(after=59 * MINUTE) == []
    assert [text for _, text in tower.look()] == [LATE, NOT_PLANNED]


@pytest.mark.parametrize("state", [State.DEFERRED, State.CLAIMED, State.SENDING])
def test_what_was_begun_and_is_not_out_is_late(tower: Tower, state: State) -> None:
    more: dict[str, Any] = {"attempts": 1, "next_attempt_at": NOW + 4 * HOUR}
    tower.rows.digest(NOW, state, subscriber_id=_reader(tower), **more)
    assert tower.look(after=59 * MINUTE) == []
    tried = LATE.replace("due: 1", "due: 1, 1 of them put off by a server")
    assert tower.look() == [("ERROR", tried)]


def test_a_patience_of_a_day_still_tells_what_is_not_planned(tower: Tower) -> None:
    tower.settings = {"late_after": 24 * HOUR}
    tower.rows.subscriber(hour=11)
    [(_, text)] = tower.look()
    # Yesterday's at 11:00; that of today is not so late, and before that it is too long ago.
    assert text == NOT_PLANNED.replace("60", "1440")


def test_a_clock_that_was_set_back_ends_nothing(tower: Tower) -> None:
    """What began is told as over when it is mended, and not after less than no time."""
    mends = [_late(tower), _not_planned(tower)]
    tower.rows.read("arxiv", NOW - 37 * HOUR)
    tower.settings = {"mail": "admin@example.org"}
    assert len(tower.look()) == 3
    assert tower.look(after=-HOUR) == []
    for mend in mends:
        mend()
    assert [text.partition(":")[0] for _, text in tower.look()] == ["Over, after 0 min"] * 2
    mails = [row for row in tower.rows.all(schema.delivery) if row["account_mail_id"]]
    assert [row["next_attempt_at"] for row in mails[3:]] == [tower.now] * 2, "they leave at once"
    assert [kind for kind, _, over in tower.alerts() if not over] == ["source"]
    tower.change(schema.source, good_at=tower.now)
    assert [level for level, _ in tower.look(after=HOUR)] == ["INFO"]


def test_the_words_are_the_newest_and_a_relapse_is_a_new_matter(tower: Tower) -> None:
    mend = _late(tower)
    tower.look()
    tower.rows.digest(NOW - HOUR, State.PLANNED)
    assert tower.look() == []
    [row] = tower.rows.all(schema.alert)
    assert row["text"] == LATE.replace("due: 1", "due: 2")
    mend()
    tower.look()
    tower.change(schema.delivery, state=State.PLANNED, ended_at=None)
    assert [level for level, _ in tower.look()] == ["ERROR"]
    assert tower.alerts() == [("late", "2026-05-28", True), ("late", "2026-05-28", False)]


def test_what_a_clock_that_was_days_ahead_began_is_over_when_it_is_set_right(tower: Tower) -> None:
    tower.rows.read("arxiv", NOW)
    assert [level for level, _ in tower.look(after=2 * DAY)] == ["ERROR"]
    [(level, text)] = tower.look(after=-2 * DAY)
    assert (level, text.partition(":")[0]) == ("INFO", "Over, after 0 min")


# ------------------------------------------------------------------ the webhook


def test_the_webhook_is_told_of_the_beginning_and_the_end(tower: Tower, hook: Hook) -> None:
    tower.settings = {"webhook": hook.url}
    mend = _late(tower)
    tower.look()
    tower.look()
    mend()
    tower.look()
    tower.look()
    began, ended = hook.posted
    assert began == {
        "text": f"Paper Digest: {LATE}",
        "kind": "late",
        "subject": "2026-05-28",
        "since": "2026-05-28T12:01:00+00:00",
        "ended_at": None,
        "base_url": SITE.base_url,
    }
    assert ended["text"] == f"Paper Digest: Over, after 2 min: {LATE}"
    assert ended["ended_at"] == "2026-05-28T12:03:00+00:00"


@pytest.mark.parametrize("code", [500, 404, 302, 0], ids=["500", "404", "302", "gone"])
def test_a_webhook_that_fails_is_asked_again_and_stops_nothing(
    tower: Tower, hook: Hook, code: int
) -> None:
    tower.settings = {"webhook": hook.url if code else "http://127.0.0.1:1/hooks/s3cret"}
    hook.code = code
    mend = _late(tower)
    said = tower.look()
    assert [level for level, _ in said] == ["ERROR", "WARNING"]
    assert (str(code) if code else "ConnectError") in said[1][1]
    assert "s3cret" not in tower.log.text
    assert [level for level, _ in tower.look()] == ["WARNING"]
    hook.code, tower.settings = 200, {"webhook": hook.url}
    assert tower.look() == []
    assert [body["ended_at"] for body in hook.posted] == [None]
    mend()
    tower.look()
    assert len(hook.posted) == 2


def test_what_passed_while_the_webhook_was_away_is_told_as_over(tower: Tower, hook: Hook) -> None:
    tower.settings, hook.code = {"webhook": hook.url}, 503
    mend = _late(tower)
    tower.look()
    mend()
    tower.look()
    hook.code = 200
    tower.look()
    assert [body["text"] for body in hook.posted] == [f"Paper Digest: Over, after 1 min: {LATE}"]


# ------------------------------------------------------------------ the mail


def test_each_beginning_and_each_end_is_one_mail_in_the_ledger(tower: Tower) -> None:
    tower.settings = {"mail": "admin@example.org"}
    tower.restored = "Put back.\nRun: digest restored"
    tower.look()
    tower.look()
    tower.restored = None
    tower.look()
    stored = [(row["kind"], row["subscriber_id"]) for row in tower.rows.all(schema.account_mail)]
    assert stored == [("alert", None)] * 2
    ledger = tower.rows.all(schema.delivery)
    assert [(row["address"], row["priority"], row["state"]) for row in ledger] == [
        ("admin@example.org", 0, State.PLANNED)
    ] * 2
    frozen = tower.rows.all(schema.account_mail)
    with reading(tower.rows.engine) as connection:
        [skeleton] = contents.parts(connection, {row["skeleton"] for row in frozen})
    first, last = (
        email.message_from_bytes(
            assemble(row["personal"], skeleton, []).content, policy=email.policy.default
        )
        for row in frozen
    )
    assert first["To"] == "admin@example.org"
    assert first["From"] == "Paper Digest <digest@example.org>"
    assert "List-Unsubscribe" not in first
    assert first["Subject"] == "Paper Digest: alert (restored)"
    assert last["Subject"] == "Paper Digest: over (restored)"
    assert first["Message-ID"] != last["Message-ID"]
    body = first.get_body(("plain",))
    assert body is not None
    assert body.get_content().splitlines()[0] == "Put back. Run: digest restored"


# ------------------------------------------------------------------ the service


def test_the_service_watches_and_cleans_up_by_its_settings(
    rows: Rows, database_url: str, tmp_path: Path
) -> None:
    services = build(
        Settings(
            data_dir=tmp_path,
            database_url=database_url,
            allow_unsafe_database=True,
            secret_key=(KEY,),
            late_after_minutes=45,
            alert_mail="admin@example.org",
            retention_days=30,
            digest_retention_days=90,
        ),
        clock=lambda: NOW,
    )
    rows.digest(NOW - HOUR, State.PLANNED)
    services.watch()
    [alert] = rows.all(schema.alert)
    assert alert["text"] == LATE.replace("60", "45")
    assert alert["told_at"] == NOW
    assert [row["kind"] for row in rows.all(schema.account_mail)] == ["alert"]
    for days in (29, 31, 91):
        rows.attempt(days, NOW - timedelta(days=days))
        rows.digest(NOW - timedelta(days=days), skeleton=rows.part())
    forgotten = services.clean_up()
    assert (forgotten["attempts"], forgotten["digests"]) == (2, 1)
    services.engine.dispose()
