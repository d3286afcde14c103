"""Senders killed at any moment: nothing lost, nothing sent twice; and the harness that says so."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from digest.models import State
from digest.storage.database import open_database
from tests.chaos.__main__ import main
from tests.chaos.campaign import Campaign, Trial
from tests.chaos.days import Days, House
from tests.chaos.doom import CRASHES
from tests.chaos.house import Postgres, postgres
from tests.chaos.record import Accepted, Record
from tests.chaos.sender import MUTANTS
from tests.chaos.siege import PATIENCE, Kill
from tests.chaos.sink import Manners
from tests.chaos.verdict import Evidence, Row, Share, judge

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]
SIZE = 57_000  # bytes, of a digest of fifteen papers
ADA, BEN = "ada@example.org", "ben@example.org"
MONDAY, TUESDAY = "2026-05-25", "2026-05-26"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


# ------------------------------------------------------------------ the engine


def survived(trial: Trial, folder: Path) -> Campaign:
    """A campaign that ended without a breach."""
    told: list[Kill] = []
    campaign = Campaign(trial, folder, told.append)
    verdict = campaign.run()
    assert verdict.breaches == []
    assert verdict.states[State.SENT] > 0
    assert told == campaign.kills
    assert len(told) >= trial.kills
    return campaign


@pytest.mark.parametrize("policy", ["keep", "resend"])
def test_killed_at_any_moment_on_sqlite(policy: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/digest.db"
    trial = Trial(name="sqlite", url=url, kills=4, seed=1, policy=policy)
    assert any(kill.sending for kill in survived(trial, tmp_path).kills)


def test_killed_at_any_moment_with_helpers_on_sqlite(tmp_path: Path) -> None:
    """One process writes the ledger, three others compose and send, and any of them dies."""
    url = f"sqlite:///{tmp_path}/digest.db"
    trial = Trial(name="crew", url=url, kills=6, seed=3, workers=3, size=SIZE)
    campaign = survived(trial, tmp_path)
    assert {kill.role for kill in campaign.kills} == {"writer", "helper"}
    names = {campaign.record.name_of(mail) for mail in campaign.record.accepted}
    assert len({name for name in names if name.endswith("writer-1.example.org")}) >= 3


@pytest.mark.parametrize("crash", CRASHES)
def test_killed_at(crash: str, tmp_path: Path) -> None:
    """At each of the places once; who dies while it rescues comes after another that was killed."""
    second = crash == "during rescue"
    trial = Trial(
        name=crash,
        url=f"sqlite:///{tmp_path}/digest.db",
        kills=1 + second,
        seed=1,
        people=20,
        size=SIZE,
        crashes=(crash,),
        doomed=1 + second,
        manners=Manners(wait=0.03),
    )
    assert [kill.how for kill in survived(trial, tmp_path).kills] == ["kill"] * second + [crash]


def test_a_clock_that_steps_back_an_hour(tmp_path: Path) -> None:
    """Nothing is refused here, or it would have to wait for the hour to pass again."""
    trial = Trial(
        name="back",
        url=f"sqlite:///{tmp_path}/digest.db",
        kills=3,
        seed=1,
        between=40,
        manners=Manners(wait=0.1, gone_after=0.01, surely=30),
        step_back=timedelta(hours=1),
    )
    campaign = survived(trial, tmp_path)
    assert campaign.stepped_at is not None
    moments = [mail.at - campaign.stepped_at for mail in campaign.record.accepted]
    assert min(moments) < 0 < max(moments)


@pytest.mark.parametrize(
    ("workers", "policy", "strike"), [(1, "keep", "database"), (3, "resend", "kill")]
)
def test_killed_at_any_moment_on_postgresql(
    workers: int, policy: str, strike: str, tmp_path: Path, server: Postgres
) -> None:
    trial = Trial(
        name="postgresql",
        url=server.create(f"killed_{workers}"),
        kills=4,
        seed=workers,
        workers=workers,
        policy=policy,
        strikes=(strike,),
        restart=server.restart,
    )
    kills = survived(trial, tmp_path).kills
    assert any(kill.sending for kill in kills)
    assert any(kill.how == strike for kill in kills)


def test_stopped_for_longer_than_the_lease_and_continued(tmp_path: Path, server: Postgres) -> None:
    trial = Trial(
        name="stopped",
        url=server.create("stopped"),
        kills=2,
        seed=1,
        workers=3,
        strikes=("stop",),
        crashes=(),
    )
    campaign = survived(trial, tmp_path)
    for kill in campaign.kills:
        assert kill.how == "stop"
        assert kill.sending > 0
        assert kill.missed > 0  # others wrote its rows down as unknown
        assert kill.went_on


def test_machines_whose_clocks_are_an_hour_apart(tmp_path: Path, server: Postgres) -> None:
    trial = Trial(
        name="skewed",
        url=server.create("skewed"),
        kills=3,
        seed=2,
        workers=2,
        skew=timedelta(hours=1),
        crashes=(),
    )
    survived(trial, tmp_path)


def test_never_above_the_limit_though_one_worker_is_killed(
    tmp_path: Path, server: Postgres
) -> None:
    trial = Trial(
        name="limited",
        url=server.create("limited"),
        kills=1,
        seed=1,
        workers=3,
        rate=30.0,
        crashes=(),
        manners=Manners(),
        people=150,
        between=60,
    )
    campaign = survived(trial, tmp_path)
    record, [kill] = campaign.record, campaign.kills
    assert 30 < record.busiest(2.0) <= 2 * 30
    before = {record.name_of(mail) for mail in record.accepted if mail.at < kill.at}
    assert len(before) == 3
    assert set(kill.struck) <= before
    assert any(mail.at > kill.at for mail in record.accepted)


def kept(house: House, folder: Path) -> Days:
    """A house whose days passed without a breach: all that the calendar wants, nothing twice."""
    days = Days(house, folder, lambda _kill: None)
    verdict = days.run()
    assert verdict.breaches == []
    assert len(days.kills) >= house.kills
    return days


def test_a_house_whose_scheduler_is_killed(tmp_path: Path) -> None:
    kept(House(name="alone", url=f"sqlite:///{tmp_path}/d.db", kills=5, seed=1), tmp_path)


def test_a_house_on_two_machines_whose_clocks_are_an_hour_apart(
    tmp_path: Path, server: Postgres
) -> None:
    """Two schedulers and three workers, killed at planning, at sending and at any time."""
    days = kept(House(name="shared", url=server.create("shared"), kills=6, seed=1), tmp_path)
    assert {kill.role for kill in days.kills} == {"scheduler", "worker"}


# ------------------------------------------------------------------ the harness


def test_a_house_that_trusts_its_machines_clocks_is_found_out(
    tmp_path: Path, server: Postgres
) -> None:
    house = House(name="own", url=server.create("own"), kills=0, seed=1, days=1, mutant="own clock")
    breaches = Days(house, tmp_path, lambda _kill: None).run().breaches
    days_to_come = any("never planned, but accepted" in breach for breach in breaches)
    days_passed_over = any(breach.startswith("only 0 of ") for breach in breaches)
    assert days_to_come or days_passed_over, breaches  # by which machine looked first


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_sender_is_found_out(mutant: str, capsys: pytest.CaptureFixture[str]) -> None:
    trial = ["--kind", "senders", "--database", "sqlite", "--workers", "1", "--policy", "keep"]
    assert main(["--kills", "4", "--seed", "1", *trial, "--mutant", mutant]) == 1
    assert "sent twice: reader" in capsys.readouterr().out


def test_the_servers_settings_are_durable(server: Postgres) -> None:
    engine = open_database(server.create("durable"))
    with engine.connect() as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(text(f"SHOW {name}")).scalar_one() == "on"
    engine.dispose()


def is_sender(process: psutil.Process) -> bool:
    try:
        return "tests.chaos.sender" in process.cmdline()
    except psutil.Error:  # it was killed, and its parent has not noticed yet
        return False


def test_nothing_outlives_a_harness_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--kills", "1000"]
    command += ["--database", "sqlite", "--workers", "3"]
    own = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        for _ in harness.stdout:  # at one of its lines some are at work
            harness.send_signal(signal.SIGSTOP)  # it starts and ends nobody meanwhile
            children = psutil.Process(harness.pid).children(recursive=True)
            senders = [child for child in children if is_sender(child)]
            if senders:
                break
            harness.send_signal(signal.SIGCONT)
        for sender in senders:  # as it does with whom it is about to kill
            sender.suspend()
        harness.kill()
    assert senders
    _, left = psutil.wait_procs(children, timeout=PATIENCE)
    assert left == []


# ------------------------------------------------------------------ the verdict


def mail(address: str = ADA, slot: str = MONDAY, **more: Any) -> Accepted:
    papers = {MONDAY: (1, 2), TUESDAY: (3, 4)}[slot]
    found = Accepted(
        at=0.0,
        connection=1,
        recipient=address,
        to=address,
        address=address,
        slot=slot,
        papers=papers,
        hash="a",
    )
    return replace(found, **more)


def evidence(*accepted: Accepted, row: Row | None = None, **more: Any) -> Evidence:
    """Ada's digest of Monday, as it arrived and as the ledger has it."""
    found = Evidence(
        planned={(ADA, MONDAY): (1, 2)},
        ledger={(ADA, MONDAY): row} if row else {},
        accepted=accepted,
        unknowns_allowed=1,
    )
    return replace(found, **more)


SENT, UNKNOWN = Row(state=State.SENT), Row(state=State.UNKNOWN, unknowns=1)
RESENT = Row(state=State.SENT, unknowns=1)


@pytest.mark.parametrize(
    "found",
    [
        evidence(mail(), row=SENT),
        evidence(mail(), row=UNKNOWN),
        evidence(row=UNKNOWN),
        *(evidence(row=Row(state=state)) for state in (State.FAILED, State.SKIPPED)),
        evidence(mail(), row=RESENT, resend=True),
        evidence(mail(), mail(), row=RESENT, resend=True),
    ],
)
def test_what_is_right(found: Evidence) -> None:
    assert judge(found).breaches == []


TWO_DAYS = {(ADA, MONDAY): SENT, (ADA, TUESDAY): SENT}


@pytest.mark.parametrize(
    ("found", "breach"),
    [
        (evidence(row=SENT), "1 lost"),
        (evidence(), "1 lost"),
        (evidence(row=Row(state=State.PLANNED)), "1 still waiting"),
        (evidence(mail(), mail(), row=SENT), "1 sent twice"),
        (evidence(mail(), mail(), row=UNKNOWN), "1 sent twice"),
        (evidence(mail(), mail(), row=SENT, resend=True), "1 sent twice"),
        (evidence(mail(), mail(), mail(), row=RESENT, resend=True), "1 sent twice"),
        (
            evidence(
                mail(),
                mail(slot=TUESDAY, papers=(2, 5)),
                planned=dict.fromkeys(TWO_DAYS, (2,)),
                ledger=TWO_DAYS,
            ),
            "1 with a paper sent twice",
        ),
        (evidence(mail(), mail(BEN), row=SENT), "1 never planned"),
        (evidence(mail(), row=Row(state=State.SKIPPED)), "1 accepted, but denied"),
        (evidence(mail(), row=Row(state=State.FAILED), resend=True), "1 accepted, but denied"),
        (evidence(mail(recipient=BEN), row=SENT), "1 in somebody else's envelope"),
        (evidence(mail(to=BEN), row=SENT), "1 in somebody else's envelope"),
        (
            evidence(mail(), mail(hash="b"), row=RESENT, resend=True),
            "1 not the same bytes each time",
        ),
        (evidence(mail(), row=UNKNOWN, unknowns_allowed=0), "1 unknown, at most 0"),
        (
            evidence(row=UNKNOWN, shares={"one": Share(found=1, allowed=0)}),
            "1 unknown of one, at most 0",
        ),
        (evidence(mail(), row=RESENT, resend=True, unknowns_allowed=0), "1 unknown, at most 0"),
    ],
)
def test_what_is_wrong(found: Evidence, breach: str) -> None:
    assert any(one.startswith(breach) for one in judge(found).breaches)


# ------------------------------------------------------------------ the record


@pytest.mark.parametrize(
    ("moments", "most"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 1.0, 1.9, 2.0, 3.9, 4.0], 3),  # a window is half open: 0.0 and 2.0 lie apart
        ([0.0, 0.5, 9.0, 9.5, 10.0, 10.9, 20.0], 4),
        ([2.9, 1.0, 2.5], 3),  # the sink's connections take turns
    ],
)
def test_the_busiest_window(moments: Sequence[float], most: int, tmp_path: Path) -> None:
    record = Record(tmp_path / "record.jsonl", accepted=[mail(at=at) for at in moments])
    assert record.busiest(2.0) == most


# ------------------------------------------------------------------ the sink

ENVELOPE = b"MAIL FROM:<digest@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n"
CONTENT = b"To: <%s>\r\n\r\nSlot 2026-05-25 of %s,=\r\n papers 1 2.\r\n.\r\n"


@contextmanager
def talking(folder: Path, **manners: Any) -> Iterator[tuple[socket.socket, Record]]:
    """A connection to a sink, past its greeting, and the sink's record."""
    record = Record(folder / "record.jsonl")
    command = [sys.executable, "-m", "tests.chaos.sink", str(record.path)]
    with subprocess.Popen(
        [*command, Manners(**manners).to_json(), "1"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        with closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) as client:
            client.sendall(b"EHLO sender-1.example.org\r\n")
            hear(client, "250 SIZE")
            yield client, record
        process.stdin.close()


def hear(client: socket.socket, last: str = "") -> list[str]:
    """The lines up to one that begins with `last`, or up to the end of the connection."""
    heard, line = [], b""
    while byte := client.recv(1):
        line += byte
        if line.endswith(b"\r\n"):
            heard.append(line.decode().rstrip())
            if last and heard[-1].startswith(last):
                break
            line = b""
    return heard


def carry(client: socket.socket, address: str = ADA, *, following: bytes = b"") -> None:
    """Hand over one mail, after its envelope was taken."""
    client.sendall(CONTENT % (address.encode(), address.encode()) + following)


def test_what_was_accepted_is_on_record_when_the_client_hears_of_it(tmp_path: Path) -> None:
    with talking(tmp_path) as (client, record):
        client.sendall(ENVELOPE % ADA.encode())
        hear(client, "354")
        carry(client, following=ENVELOPE % BEN.encode())
        hear(client, "250 2.0.0 Kept")
        record.follow()
        assert [(one.address, one.slot, one.papers) for one in record.accepted] == [
            (ADA, MONDAY, (1, 2))
        ]
        hear(client, "354")
        carry(client, BEN, following=b"QUIT\r\n")
        assert [line[:3] for line in hear(client)] == ["250", "221"]
        record.follow()
    assert [(one.recipient, one.to) for one in record.accepted] == [(ADA, ADA), (BEN, BEN)]
    [visit] = record.visits.values()
    assert visit.name == "sender-1.example.org"
    assert record.open_between(visit.opened, visit.opened, visit.name).total() == 1
    assert record.open_between(visit.opened, visit.opened, "sender-2.example.org").total() == 0
    assert record.open_between(0.0, visit.opened - 1, visit.name).total() == 0


@pytest.mark.parametrize(
    ("manners", "answers", "faults", "doubts"),
    [
        ({"gone_before": 1.0}, None, {"gone before"}, 0),
        ({"gone_within": 1.0}, ["250", "250", "354"], {"gone within"}, 1),
        ({"gone_after": 1.0}, ["250", "250", "354"], {"gone after", "gone after, kept"}, 1),
        ({"refuse": 1.0}, ["250", "250", "354", "451", "221"], {"refused"}, 0),
        ({"storm": 1.0, "storm_length": 60.0}, ["250", "451", "503", "221"], {"storm"}, 0),
        ({"late": 1.0, "late_wait": 0.1}, ["250", "250", "354", "250", "221"], {"late"}, 0),
    ],
)
def test_the_sinks_manners(
    manners: dict[str, float],
    answers: list[str] | None,
    faults: set[str],
    doubts: int,
    tmp_path: Path,
) -> None:
    with talking(tmp_path, **manners) as (client, record):
        client.sendall(ENVELOPE % ADA.encode())
        heard = [] if manners.keys() & {"gone_before", "storm"} else hear(client, "354")
        if heard:
            carry(client)
        if doubts == 0 and "gone_before" not in manners:
            client.sendall(b"QUIT\r\n")
        heard += hear(client)
        if answers is not None:
            assert [line[:3] for line in heard] == answers
        else:
            assert len(heard) < 3
    record.follow()
    assert record.faults.keys() <= faults
    assert record.faults.total() == 1
    assert record.doubts == doubts
    told = any(line.endswith("Kept") for line in heard)
    kept = any(fault.endswith("kept") for fault in record.faults)
    assert len(record.accepted) == (told or kept)
    for line in record.path.read_text().splitlines():
        assert json.loads(line)["at"] > 0
