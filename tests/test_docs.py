"""What the documents promise exists: commands, options, links, settings, pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from digest.cli import app
from digest.settings.checks import PREFIX
from digest.settings.model import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# Where operators are told to type something; DESIGN.md and the like tell of the inside.
TYPED = [
    *DOCUMENTS,
    *(path for path in (ROOT / "contrib").iterdir() if path.is_file()),
    ROOT / "Makefile",
    ROOT / "docker-compose.yml",
    ROOT / ".env.example",
]

COMMAND = re.compile(r"(?:`|\.venv/bin/|exec digest |with: )digest ([a-z][^`\n|#]*)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
MAKE = re.compile(r"(?<![a-z])make ([a-z]+)\b")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def options_of(words: list[str]) -> set[str] | None:
    """The options of a command line's command; None where there is no such command."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        command = command.commands.get(word)
        if command is None:
            return None
    return {name for option in command.params for name in option.opts} | {"--help"}


@pytest.mark.parametrize("path", TYPED, ids=lambda path: path.name)
def test_the_commands_exist(path: Path) -> None:
    for typed in COMMAND.findall(read(path)):
        words = [word for word in typed.split() if word != "..."]
        known = options_of(words)
        assert known is not None, typed
        assert {word for word in words if word.startswith("--")} <= known, typed


def test_the_check_itself() -> None:
    assert "--html" in (options_of(["preview", "ada@example.org"]) or set())
    assert options_of(["subscriber", "imprt"]) is None
    assert COMMAND.findall("sudo -u digest .venv/bin/digest status") == ["status"]


@pytest.mark.parametrize("path", TYPED, ids=lambda path: path.name)
def test_the_chores_exist(path: Path) -> None:
    chores = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))
    code = "\n".join(CODE.findall(read(path)))
    assert set(MAKE.findall(code)) <= chores


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(path)):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", TYPED, ids=lambda path: path.name)
def test_the_settings_exist(path: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", read(path)))
    named -= {f"{PREFIX}X", f"{PREFIX}X_FILE"}  # any setting
    assert {name.removesuffix("_FILE") for name in named} <= known


def test_every_command_is_in_the_readme() -> None:
    root: Any = typer.main.get_command(app)
    table = read(ROOT / "README.md").split("## Commands")[1].split("##")[0]
    cells = "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))
    named = set(re.findall(r"`([a-z-]+)(?: [A-Z]+)?`", cells))
    assert named == set(root.commands)


def test_every_chore_says_what_it_does() -> None:
    text = read(ROOT / "Makefile")
    [phony] = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(re.findall(r"^([a-z]+):.*## \w", text, re.MULTILINE)) == set(phony.split())
