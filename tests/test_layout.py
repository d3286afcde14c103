"""Imports point one way, and the core touches neither the world nor the clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

VALUES = {"errors", "models"}
CORE = {
    *("papers", "topics", "ranking", "selection", "cadence", "suppression", "tokens", "message"),
    *("interests", "taste"),
}
STAGES = {"sources", "storage", "rendering", "delivery", "inbox", "journal", "providers"}
BELOW_STAGES = {"schema", "migrations", "locales", "metrics"}
DEVICES = STAGES | BELOW_STAGES
SERVICES = VALUES | CORE | DEVICES | {"pipeline", "settings"}
EDGES = SERVICES | {"configured", "services", "engine", "web", "logs", "importing"}

# What a module or package of ours may import of ours; itself goes without saying.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "models": set(),
    **dict.fromkeys(CORE, VALUES | CORE),
    **dict.fromkeys(STAGES, VALUES | CORE),
    "schema": VALUES,
    "migrations": {"schema"},
    "locales": VALUES,
    "metrics": VALUES,
    "storage": VALUES | CORE | {"schema", "migrations"},
    "rendering": VALUES | CORE | {"locales"},
    "pipeline": VALUES | CORE | DEVICES,
    "settings": VALUES | {"locales"},
    "configured": SERVICES,
    "services": SERVICES | {"configured", "logs"},
    "engine": SERVICES | {"services"},
    "importing": SERVICES | {"services"},
    "logs": VALUES,
    "sample": VALUES | CORE,
    "web": SERVICES | {"services"},
    "cli": EDGES | {"sample"},
    "scheduler": EDGES,
}

IO_LIBRARIES = {
    *("aiosmtpd", "aiosmtplib", "alembic", "apscheduler", "asyncio", "dns", "feedparser"),
    *("glob", "http", "httpx", "io", "jinja2", "os", "pathlib", "premailer", "psycopg", "requests"),
    *("shutil", "smtplib", "socket", "sqlalchemy", "sqlite3", "ssl", "starlette", "subprocess"),
    *("tempfile", "threading", "time", "uvicorn"),
}
CLOCK_METHODS = {"now", "today", "utcnow"}
IO_CALLS = {"open", "print", "input"}


def violations(part: str, source: str, *, package: str = "digest") -> Iterator[str]:
    """What a file of `part` does that its place forbids, as `line: what`."""
    for node in ast.walk(ast.parse(source)):
        for line, name in _imports(node, package):
            top, _, rest = name.partition(".")
            ours = rest.partition(".")[0]
            if top == "digest" and ours and ours not in ALLOWED[part] | {part}:
                yield f"{line}: {part} imports {ours}"
            if part in CORE and top in IO_LIBRARIES:
                yield f"{line}: {part} imports {top}"
        if part in CORE and isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in CLOCK_METHODS:
                yield f"{node.lineno}: {part} reads the clock"
            if isinstance(called, ast.Name) and called.id in IO_CALLS:
                yield f"{node.lineno}: {part} calls {called.id}"


def _imports(node: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Full names of the modules that a statement may import."""
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        parents = package.split(".")
        base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
        module = ".".join(filter(None, (base, node.module)))
        if module == "digest":
            yield from (
                (node.lineno, f"digest.{alias.name}")
                for alias in node.names
                if alias.name != "__version__"
            )
        else:
            yield node.lineno, module


def _part(path: Path) -> str:
    """The module or package directly below `digest` that a file belongs to."""
    inside = path.relative_to(ROOT / "digest") if path.is_relative_to(ROOT / "digest") else path
    return inside.parts[0].removesuffix(".py") if path != inside else path.stem


FILES = sorted(
    path
    for path in [*(ROOT / "digest").rglob("*.py"), *ROOT.glob("scheduler.py")]
    if path != ROOT / "digest" / "__init__.py"
)


def test_every_part_has_a_place() -> None:
    unknown = {_part(path) for path in FILES} - ALLOWED.keys()
    assert not unknown, "say in this file what these may import"


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_point_one_way(path: Path) -> None:
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    assert not list(violations(_part(path), path.read_text(encoding="utf-8"), package=package))


def test_no_directions_make_a_circle() -> None:
    reach = {part: set(allowed) for part, allowed in ALLOWED.items()}
    for _ in ALLOWED:
        for below in reach.values():
            below.update(*[reach[part] for part in below])
    # The core's modules are one layer and may use one another.
    assert {part for part, below in reach.items() if part in below} == CORE


CAUGHT = {
    "a stage imports another": ("sources", "from digest.storage import papers", "storage"),
    "by name from the package": ("delivery", "from digest import schema", "schema"),
    "by a plain import": ("ranking", "import digest.storage.papers", "storage"),
    "relatively": ("storage", "from ..delivery import Relay", "delivery"),
    "inside a function": ("cadence", "def f():\n    from digest.web import app", "web"),
    "for types only": ("papers", "if TYPE_CHECKING:\n    from digest.web import app", "web"),
    "settings below the services": ("pipeline", "from digest.settings import Settings", "settings"),
    "values import the core": ("models", "from digest.papers import text", "papers"),
    "an IO library in the core": ("tokens", "from pathlib import Path", "pathlib"),
    "a part of an IO library": ("topics", "import sqlalchemy.orm", "sqlalchemy"),
    "the clock in the core": ("selection", "datetime.now(tz=UTC)", "clock"),
    "today in the core": ("cadence", "x = dt.date.today()", "clock"),
    "a file in the core": ("papers", "open('x')", "open"),
}


@pytest.mark.parametrize(("part", "source", "words"), CAUGHT.values(), ids=CAUGHT)
def test_the_check_itself(part: str, source: str, words: str) -> None:
    [found] = violations(part, source, package=f"digest.{part}")
    assert words in found


PASSED = {
    "a package's own modules": ("storage", "from digest.storage.papers import x"),
    "its own, relatively": ("storage", "from . import papers"),
    "the version": ("sources", "from digest import __version__"),
    "the clock outside the core": ("storage", "import time\ndatetime.now(tz=UTC)"),
    "a value named now": ("cadence", "def f(now):\n    return now"),
}


@pytest.mark.parametrize(("part", "source"), PASSED.values(), ids=PASSED)
def test_what_is_allowed(part: str, source: str) -> None:
    assert not list(violations(part, source, package=f"digest.{part}"))
