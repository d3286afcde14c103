"""Every line of the log says what was being done, and holds nothing that it should not."""

from __future__ import annotations

import ast
import json
import logging
import re
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from digest.logs import configure
from tests.running import DIGEST, answers, environment, free_port, running, wait_until

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "digest").rglob("*.py"), ROOT / "scheduler.py"])
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def silent(source: str) -> Iterator[int]:
    """The lines that log without an action."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in ("log", "logger", "logging")
            and node.func.attr in LEVELS
            and not any(
                keyword.arg == "extra" and _names(keyword.value) for keyword in node.keywords
            )
        ):
            yield node.lineno


def _names(extra: ast.expr) -> bool:
    return isinstance(extra, ast.Dict) and any(
        isinstance(key, ast.Constant) and key.value == "action" for key in extra.keys
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_line_has_its_action(path: Path) -> None:
    assert not list(silent(path.read_text(encoding="utf-8")))


def test_all_that_logs_is_called_log() -> None:
    named = {
        name
        for path in FILES
        for name in re.findall(r"(\w+) = logging\.getLogger", path.read_text(encoding="utf-8"))
    }
    assert named == {"log"}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("log.info('x')", [1]),
        ("\nlog.error('x', extra={'path': 1})", [2]),
        ("log.log(1, 'x', extra=more)", [1]),
        ("log.exception('x', extra={'path': 1, 'action': 'plan'})", []),
        ("math.log(1)", []),
    ],
)
def test_the_check_itself(source: str, lines: list[int]) -> None:
    assert list(silent(source)) == lines


@pytest.mark.parametrize("format_", ["human", "json"])
def test_a_line_is_a_line_and_has_an_action(
    format_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("info", format_)
    log = logging.getLogger("tests.other")
    log.info("It failed:\r\n  twice\n")
    log.info("Planned.", extra={"action": "plan", "skipped": Counter(), "text": "a\nb"})
    log.info("Planned.", extra={"action": "plan", "skipped": Counter(quiet=2)})
    first, second, third = capsys.readouterr().err.splitlines()
    if format_ == "json":
        assert json.loads(first)["action"] == "tests.other"
        assert json.loads(third)["skipped"] == {"quiet": 2}
    else:
        assert first.endswith("INFO    It failed: twice  [action=tests.other]")
        assert second.endswith("Planned.  [action=plan text=a b]")
        assert third.endswith("[action=plan skipped=quiet:2]")


@pytest.mark.parametrize("format_", ["human", "json"])
def test_the_row_that_postgresql_quotes_is_not_shown(
    postgres_url: str, format_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("info", format_)
    log = logging.getLogger("tests.other")
    with psycopg.connect(postgres_url.replace("+psycopg", "", 1)) as connection:
        connection.execute("CREATE TEMP TABLE reader (address text PRIMARY KEY)")
        insert, reader = "INSERT INTO reader VALUES (%s)", ["ada@example.org"]
        connection.execute(insert, reader)
        try:
            connection.execute(insert, reader)
        except psycopg.IntegrityError as error:
            connection.rollback()
            log.exception("Not stored: %s", error)
            group = ExceptionGroup("several", [error])
            log.error("Not stored.", exc_info=group)
    shown = capsys.readouterr().err
    assert shown.count("Traceback") == 2
    assert shown.count("reader_pkey") >= 3
    assert "ada@example.org" not in shown


def test_the_pages_write_one_object_a_line(tmp_path: Path) -> None:
    port = free_port()
    env = environment(
        tmp_path,
        WEB_PORT=str(port),
        LOG_FORMAT="json",
        SECRET_KEY="kq3ZxT8mW1rYp5uB7nC9vE2dF4gH6jL0",
    )
    with running(tmp_path, env, [*DIGEST, "serve"]) as process:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
        urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert all(line["action"] for line in lines)
    [request] = [line for line in lines if line["action"] == "web.request"]
    assert (request["path"], request["status"]) == ("/", 200)
