"""The demo and the command line, as a person meets them: whole processes, from `make` on.

The demo runs in a copy of the checkout, behind a proxy that never answers: all of the time in
which providers may answer is spent, and the invented sample takes their place.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.measuring import Row, Took, interleave, measure, timed
from benchmarks.surroundings import ROOT

HELP_BAR = 0.5  # seconds
AGAIN_BAR = 10.0
NOTHING_BAR = 90.0
# `-o`: what is installed counts as new enough, whatever its time.
DEMO = ("make", "-o", ".venv/.installed", "demo", "ONCE=1")
LEFT_OUT = (".*", "__pycache__", "var", "dist", "build")


def run(*, rounds: int = 5, demos: int = 3, full: bool = False) -> list[Row]:
    """`full` also installs from nothing, which needs a package registry."""
    python, digest = sys.executable, str(Path(sys.executable).parent / "digest")
    if not Path(digest).is_file() or shutil.which("make") is None:
        return [
            Row(
                what="make or digest",
                skipped=True,
                required=True,
                note="is missing; run: make setup",
            )
        ]
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "python -c 'import typer'": [python, "-c", "import typer"],
        "digest --help": [digest, "--help"],
    }
    took = interleave(rounds, {name: partial(_run, command) for name, command in commands.items()})
    baseline = took["python -c pass"]
    bars = {"digest --help": HELP_BAR}
    rows = [
        timed(name, seconds, baseline=baseline, bar=bars.get(name))
        for name, seconds in took.items()
    ]
    with tempfile.TemporaryDirectory() as folder, closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # Where make runs us, its own variables would go on to the make of the copy.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        alone = {
            **clean,
            "https_proxy": proxy,
            "HTTPS_PROXY": proxy,
            "no_proxy": "",
            "NO_PROXY": "",
        }
        checkout = Path(folder) / "checkout"
        shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*LEFT_OUT))
        if full:
            rows += _from_nothing(checkout, clean, alone)
        else:
            (checkout / ".venv").symlink_to(sys.prefix)
        again = partial(_run, DEMO, folder=checkout, environment=alone)
        rows.append(timed("make demo, again", [again() for _ in range(demos)], bar=AGAIN_BAR))
    return rows


def _from_nothing(checkout: Path, clean: Mapping[str, str], alone: Mapping[str, str]) -> list[Row]:
    """Install and run twice: pip keeps what it downloads, so that the second time has no wait."""
    rows = []
    for what, bar in (("with downloads", None), ("downloads kept", NOTHING_BAR)):
        shutil.rmtree(checkout / ".venv", ignore_errors=True)
        took = _run(["make", "setup"], folder=checkout, environment=clean)
        took += _run(DEMO, folder=checkout, environment=alone)
        rows.append(timed(f"make demo, from nothing, {what}", [took], bar=bar))
    return rows


def _run(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Took:
    """Run a whole process; CalledProcessError when it fails."""
    return measure(
        lambda: subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True
        )
    )
