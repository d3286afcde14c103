"""Monitoring's addresses: who may see what, on the pages and on a server of their own."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from digest.errors import Busy
from digest.models import State
from digest.pipeline.reporting import report, summary
from digest.services import build
from digest.settings import Settings
from digest.web.build import build as build_pages
from digest.web.build import probing
from digest.web.probe import SILENT, Probe, probe_app
from digest.web.server import WebServer, listen
from tests.databases import hanging, new_database
from tests.house import KEY
from tests.rows import DAY, HOUR, NOW, Rows
from tests.running import wait_until
from tests.web_site import PROBE, serving

COUNTS = ["/status.json", "/metrics"]


@contextmanager
def answering(probe: Probe) -> Iterator[httpx.Client]:
    """A process without pages that says how it is."""
    with (
        WebServer(probe_app(probe), listen("127.0.0.1", 0)) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        yield client


@contextmanager
def among_pages(probe: Probe, folder: Path) -> Iterator[httpx.Client]:
    with serving(folder, probe=probe) as running:
        yield running.client


@pytest.fixture(params=["pages", "alone"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Probe], Any]:
    """What serves a probe: the pages, or a process without any."""
    if request.param == "pages":
        return lambda probe: among_pages(probe, tmp_path)
    return answering


def test_alive_and_ready_are_for_all(served: Callable[[Probe], Any]) -> None:
    problems: list[str] = []
    with served(replace(PROBE, ready=lambda: problems, token="t" * 32)) as client:
        for path in ("/healthz", "/readyz"):
            answer = client.get(path, headers={"x-forwarded-for": "192.0.2.1"})
            assert (answer.status_code, answer.text) == (200, "ok")
        problems += ["Run: digest migrate", "Nothing from `plan` for 301 s."]
        wait_until(lambda: client.get("/readyz").status_code != 200, seconds=3)
        answer = client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "\n".join(problems))
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", COUNTS)
def test_without_a_token_this_machine_alone_sees_the_counts(
    served: Callable[[Probe], Any], path: str
) -> None:
    with served(PROBE) as client:
        here = client.get(path)
        assert here.status_code == 200
        assert here.headers["cache-control"] == "no-store"
        assert client.get(path, headers={"host": "localhost:9090"}).status_code == 200
        for far in (
            {"x-forwarded-for": "192.0.2.1"},
            {"forwarded": "for=192.0.2.1"},
            {"host": "digest.example.org"},
        ):
            assert client.get(path, headers=far).status_code == 403, far


@pytest.mark.parametrize("path", COUNTS)
def test_with_a_token_it_decides(served: Callable[[Probe], Any], path: str) -> None:
    token = "tökén" + "t" * 30
    with served(replace(PROBE, token=token)) as client:
        refused = client.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        for wrong in (f"Bearer {token[:-1]}", f"Basic {token}", token):
            answer = client.get(path, headers={"authorization": wrong.encode()})
            assert answer.status_code == 401
        right = {"authorization": f"Bearer {token}".encode(), "x-forwarded-for": b"192.0.2.1"}
        assert client.get(path, headers=right).status_code == 200


def test_the_status_is_the_report(rows: Rows, served: Callable[[Probe], Any]) -> None:
    rows.digest(NOW - HOUR, State.FAILED, reason="refused", code=550, text="no such user")
    rows.route("two.example", state="open", reason="blocked")
    rows.read("arxiv", NOW - HOUR)

    def status() -> dict[str, Any]:
        return summary(report(rows.engine, ["arxiv"], now=NOW, span=DAY))

    with served(replace(PROBE, status=status)) as client:
        found = client.get("/status.json").json()
    assert found["start"] == "2026-05-27T12:00:00+00:00"
    assert (found["failed"], found["reasons"]) == (1, {"failed: refused": 1})
    assert found["failures"][0]["text"] == "no such user"
    assert found["breakers"][0]["opened_at"] == "2026-05-28T11:00:00+00:00"
    assert found["good_at"] == {"arxiv": "2026-05-28T11:00:00+00:00"}
    assert found["sources"][0]["health"] == "ok"
    assert "@" not in json.dumps(found)


def test_a_status_without_a_database_is_a_sentence(served: Callable[[Probe], Any]) -> None:
    def status() -> dict[str, Any]:
        raise OperationalError("SELECT", {}, OSError("gone"))

    with served(replace(PROBE, status=status)) as client:
        answer = client.get("/status.json")
    assert (answer.status_code, answer.text) == (503, "The database does not answer.")


def test_many_who_ask_are_one_question(served: Callable[[Probe], Any]) -> None:
    asked: list[int] = []
    goes_on = threading.Event()

    def ready() -> list[str]:
        asked.append(1)
        goes_on.wait(10)
        return []

    with served(replace(PROBE, ready=ready)) as client:
        url = str(client.base_url.join("/readyz"))
        with ThreadPoolExecutor(60) as pool:
            answers = [pool.submit(httpx.get, url) for _ in range(60)]
            assert {answer.result().status_code for answer in answers} == {503}
        began = time.monotonic()
        assert client.get("/readyz").text == SILENT
        assert time.monotonic() - began < 1  # the question is long overdue: nobody waits again
        assert client.get("/healthz").text == "ok"
        goes_on.set()
        wait_until(lambda: client.get("/readyz").status_code == 200, seconds=3)
    assert len(asked) <= 2


def test_a_database_that_hangs(postgres_url: str, tmp_path: Path) -> None:
    url = new_database(postgres_url)
    settings = Settings(
        data_dir=tmp_path, database_url=url, secret_key=(KEY,), allow_unsafe_database=True
    )
    services = build(settings)
    with (
        WebServer(build_pages(services), listen("127.0.0.1", 0)) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client,
        ThreadPoolExecutor(50) as pool,
    ):
        assert client.get("/readyz").status_code == 200
        with hanging(postgres_url):
            # More than Starlette has threads for.
            pages = [pool.submit(client.get, "/", timeout=3) for _ in range(50)]
            time.sleep(1.1)
            for path, status, seconds in (
                ("/healthz", 200, 1),
                ("/readyz", 503, 3.5),
                ("/status.json", 503, 10),
                ("/metrics", 200, 10),
            ):
                began = time.monotonic()
                answer = client.get(path)
                assert answer.status_code == status, path
                assert time.monotonic() - began < seconds, path
            assert "digest_database_up 0.0" in answer.text
        wait_until(lambda: client.get("/readyz").status_code == 200, seconds=10)
        for page in pages:
            page.exception()
        pool_of: Any = services.engine.pool
        wait_until(lambda: pool_of.checkedout() == 0)  # those that nobody waits for any more
    services.engine.dispose()


def test_what_machines_ask_all_the_time_is_not_in_the_usual_log(
    served: Callable[[Probe], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "digest.web"), served(PROBE) as client:
        for path in ("/healthz", "/readyz", *COUNTS, "/other"):
            client.get(path)
    levels = [record.levelname for record in caplog.records if "status" in vars(record)]
    assert levels == [*["DEBUG"] * 4, "INFO"]


def test_a_process_without_pages_has_nothing_else() -> None:
    with answering(PROBE) as client:
        for path in ("/", "/inbox/", "/healthz/"):
            assert client.get(path).status_code == 404


def test_a_port_of_its_own_while_the_block_runs(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    settings = Settings(data_dir=tmp_path, secret_key=(KEY,), probe_port=port)
    services = build(settings, clock=lambda: NOW)
    problems: list[str] = []
    url = f"http://127.0.0.1:{port}"
    with probing(services, lambda: problems, house=True):
        assert httpx.get(f"{url}/readyz").status_code == 200
        problems.append("Nothing from `plan`.")
        wait_until(lambda: httpx.get(f"{url}/readyz").text == "Nothing from `plan`.", seconds=3)
        assert "digest_due 0.0" in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/status.json").json()["due"] == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    with probing(services, lambda: problems, house=False):
        assert "digest_due" not in httpx.get(f"{url}/metrics").text
    services.engine.dispose()


def test_no_port_is_no_server(tmp_path: Path) -> None:
    services = build(Settings(data_dir=tmp_path, secret_key=(KEY,)))
    with probing(services, list, house=True):
        pass
    services.engine.dispose()


def test_a_taken_port_names_its_setting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        services = build(Settings(data_dir=tmp_path, secret_key=(KEY,), probe_port=port))
        with (
            pytest.raises(Busy, match=f"port {port} is taken .* set DIGEST_PROBE_PORT"),
            probing(services, list, house=True),
        ):
            pass
    with caplog.at_level(logging.INFO), probing(services, list, house=True):
        pass
    assert [record.getMessage() for record in caplog.records] == ["The probe is served."]
    services.engine.dispose()
