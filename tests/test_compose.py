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
from digest.settings.checks import PREFIX
from digest.settings.model import Settings
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


def asked_of_health(environ: dict[str, str]) -> str:
    """The address that the health check asks for, with these variables."""
    *_, code = check_of_health()
    telling = code.replace(", urllib.request as web", "").replace("web.urlopen", "print")
    telling = telling.replace(", timeout=4", "")
    done = subprocess.run(
        [sys.executable, "-c", telling], env=environ, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


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


def test_nobody_is_root_and_nothing_only_tests() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.findall(r"--requirement (\S+)", text) == ["requirements-service.lock"]
    assert "--require-hashes" in text
    assert "!requirements-service.lock\n" in (ROOT / ".dockerignore").read_text("utf-8")
    assert "\nUSER digest\n" in (ROOT / "Dockerfile").read_text("utf-8")


@pytest.mark.parametrize("name", OURS)
def test_env_moves_no_port(name: str) -> None:
    """`.env` is for a house without containers too, and names ports there."""
    written = {
        PREFIX + "WEB_HOST": "127.0.0.1",
        PREFIX + "WEB_PORT": "9000",
        PREFIX + "PROBE_PORT": "9001",
        PREFIX + "SMTP_HOST": "smtp.example.org",
        PREFIX + "SENDER_ADDRESS": "digest@example.org",
        PREFIX + "BASE_URL": "https://digest.example.org",
    }
    inside = {name: str(value) for name, value in OURS[name]["environment"].items()}
    settings = load(written | inside, None)
    assert settings.web_host == "0.0.0.0"
    published = {int(one.rpartition(":")[2]) for one in OURS[name].get("ports", [])}
    assert published <= {settings.web_port}
    if "healthcheck" not in OURS[name]:
        port = settings.web_port if name == "web" else settings.probe_port
        assert asked_of_health(inside) == f"http://127.0.0.1:{port}/readyz"


def test_the_words_to_try_it_with_are_enough(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    [words] = re.findall(r"^# Only to try:(.*\n(?:# {10}.*\n)*)", text, re.MULTILINE)
    edits = dict(re.findall(r"(DIGEST_[A-Z_]+)=(\w*)", words))
    assert len(edits) == 4
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    for name, value in edits.items():
        kept = [line for line in lines if not line.lstrip("#").startswith(f"{name}=")]
        assert len(kept) == len(lines) - 1
        lines = [*kept, f"{name}={value}"]
    (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    for service in ("web", "scheduler", "worker", "migrate"):
        inside = {name: str(value) for name, value in OURS[service]["environment"].items()}
        settings = load(inside, tmp_path / ".env")
        assert (settings.smtp_host, settings.smtp_port) == ("mail", 1025)
        assert not settings.smtp_user


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
            inside = OURS[service]["environment"]
            port = "PROBE_PORT" if inside[PREFIX + "PROBE_PORT"] else "WEB_PORT"
            for number in range(count):
                given = {**env, PREFIX + port: str(free_port())}
                process = stack.enter_context(running(tmp_path, given, command_of(service)))
                started[service, number] = (process, given)
        wait_until(lambda: len(sink.mails) >= READERS, seconds=60)
        for _, given in started.values():
            # The image's own ports are those of its settings.
            health = [
                one.replace("8000", given.get("DIGEST_WEB_PORT", "8000"))
                for one in check_of_health()
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
