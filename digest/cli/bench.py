"""`digest bench`: the benchmarks of a checkout; what is installed from a wheel has none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from digest.cli.output import fail

CHECKOUT = Path(__file__).resolve().parents[2]


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Which, as in: send latency. Default: all."),
    ] = None,
) -> None:
    """Measure: sending, planning and more, beside a baseline; CHECK=1 fails what falls short."""
    if not (CHECKOUT / "benchmarks" / "__main__.py").is_file():
        fail(
            "The benchmarks are no part of the installed program: run this in a checkout of the"
            " project, after: make setup"
        )
    command = [sys.executable, "-m", "benchmarks", *(names or [])]
    raise typer.Exit(subprocess.run(command, cwd=CHECKOUT, check=False).returncode)
