"""Every line of the log says what was being done, so that machines can tell lines apart."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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
