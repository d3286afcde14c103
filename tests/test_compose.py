"""The containers: is the file sound, and do its commands make a house that works?

No container engine is needed: the file is checked by a parser of the Compose specification, and
its commands run as plain processes, with the variables that they have there.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from sqlalchemy import make_url, text

from digest.models import Frequency, Wishes
from digest.services import build
from digest.settings import load
from digest.settings.model import PREFIX, Settings
from digest.storage import subscribers
from digest.storage.database import open_database, writing
from tests.running import (
    DIGEST,
    ROOT,
    environment,
    feed,
    free_port,
    running,
    serving_feed,
    wait_until,
)
from tests.sink import Sink

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if "build" in one}
PROGRAMS = {"digest": DIGEST, "python": [sys.executable]}
READERS = 20


def command_of(service: str) -> list[str]:
    """What a container of this service runs, as it is run here."""
    program, *arguments = SERVICES[service]["command"]
    return [*PROGRAMS[program], *(arguments if program == "digest" else [ROOT / arguments[0]])]


def check_of_health() -> list[str]:
    """The Dockerfile's HEALTHCHECK."""
    lines = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", "")
    [found] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", lines, re.MULTILINE)
    _, *arguments = json.loads(found)
    return [sys.executable, *arguments]


def test_the_file_is_what_the_specification_says() -> None:
    PyCompose.from_json(json.dumps(COMPOSE))


def test_the_check_itself() -> None:
    with pytest.raises(ValueError, match="comand"):
        PyCompose.from_json(json.dumps({"services": {"web": {"image": "x", "comand": "y"}}}))


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    named = {one for one in OURS[name]["environment"] if one.startswith(PREFIX)}
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert named <= known


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", ())) <= SERVICES.keys()
    volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
    assert volumes <= COMPOSE["volumes"].keys()


def test_who_sends_has_time_to_end() -> None:
    for name in ("worker", "single"):
        minutes = int(SERVICES[name]["stop_grace_period"].removesuffix("m"))
        assert 60 * minutes > Settings.model_fields["drain_seconds"].default


def test_nobody_is_root() -> None:
    assert "\nUSER digest\n" in (ROOT / "Dockerfile").read_text("utf-8")


def test_the_commands_make_a_house(postgres_url: str, sink: Sink, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with ExitStack() as stack:
        env = environment(
            tmp_path,
            DATABASE_URL=empty_database(postgres_url, "composed"),
            BASE_URL="https://digest.example.org",
            ALLOW_UNSAFE_DATABASE="true",
            MX_LOOKUPS="false",
            SECRET_KEY="kq3ZxT8mW1rYp5uB7nC9vE2dF4gH6jL0",
            SENDER_ADDRESS="digest@example.org",
            SMTP_HOST=sink.host,
            SMTP_PORT=str(sink.port),
            SMTP_TLS="none",
            SOURCES="feeds",
            FEEDS=f"lab={stack.enter_context(serving_feed(feed(now)))}",
        )
        subprocess.run(
            command_of("migrate"), cwd=tmp_path, env=env, check=True, stdout=subprocess.DEVNULL
        )
        subscribe(env, now=now)
        started = {}
        for service, count in {"web": 1, "scheduler": 2, "worker": 3}.items():
            port = (
                "PROBE_PORT"
                if PREFIX + "PROBE_PORT" in OURS[service]["environment"]
                else "WEB_PORT"
            )
            for number in range(count):
                given = {**env, PREFIX + port: str(free_port())}
                process = stack.enter_context(running(tmp_path, given, command_of(service)))
                started[service, number] = (process, given)
        wait_until(lambda: len(sink.mails) >= READERS, seconds=60)
        for _, given in started.values():
            # The image's own ports are those of its settings.
            health = [
                one.replace("8000", given.get("DIGEST_WEB_PORT", "")) for one in check_of_health()
            ]
            subprocess.run(health, env=given, check=True)
        for process, _ in started.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in started.values():
            _, log = process.communicate(timeout=60)
            assert process.returncode == 0, log
            assert "Traceback" not in log
            assert "@example.org" not in log.replace("digest@example.org", "")
    arrived = sorted(mail.recipients[0] for mail in sink.mails)
    assert arrived == sorted(f"reader{number}@example.org" for number in range(READERS))


def empty_database(server: str, name: str) -> str:
    """A database without tables, as the container of PostgreSQL makes it."""
    engine = open_database(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def subscribe(env: dict[str, str], *, now: datetime) -> None:
    """Readers whose digest of this hour is due."""
    services = build(load(env, None))
    wishes = Wishes(zone="UTC", hour=now.hour, frequency=Frequency.DAILY, max_papers=5)
    newcomers = [
        services.newcomer(f"reader{number}@example.org", wishes) for number in range(READERS)
    ]
    with writing(services.engine) as connection:
        subscribers.add_many(connection, newcomers, now=now - timedelta(hours=2))
    services.engine.dispose()
