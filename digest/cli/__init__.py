"""The command line: parse input, call one function, show the result.

Exit codes: 0 done; 1 done, with failures that are named; 2 the person's mistake, with a sentence;
3 ended early by a signal; 4 ended at once by a second one.
Commands import what they need when they run, so that `digest --help` answers at once.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from digest import __version__
from digest.cli import backup, deliveries, house, papers, people, topics, worker
from digest.cli.output import fail, say
from digest.errors import Busy, DigestError

app = typer.Typer(
    name="digest",
    help="Paper Digest: the morning's papers, ranked for each reader, in their inbox.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
house.register(app)
backup.register(app)
worker.register(app)
app.add_typer(topics.app, name="topic")
app.add_typer(people.app, name="subscriber")
app.add_typer(papers.app, name="paper")
app.add_typer(deliveries.app, name="delivery")


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"Paper Digest {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The `digest` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A title in Greek must not break a command on a terminal that has no Greek.
            stream.reconfigure(errors="backslashreplace")
    try:
        "".join(sys.argv).encode()
    except UnicodeEncodeError:
        fail("The command holds bytes that are not UTF-8.")
    try:
        app(prog_name="digest")
    except Busy as error:
        fail(str(error), code=1)
    except DigestError as error:
        fail(str(error))
    except SystemExit:
        raise  # how every command ends: nothing must be loaded to look at it
    except _surroundings() as error:
        sentence = _sentence(error)
        if not sentence:
            raise
        fail(sentence, code=1)


def _surroundings() -> tuple[type[Exception], ...]:
    """What the machine or the database may refuse; asked only when something was raised."""
    from sqlalchemy.exc import OperationalError

    return OSError, OperationalError


def _sentence(error: Exception) -> str:
    """What refused, and why; empty where it is a bug of ours."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}." if error.filename else ""
    cause = getattr(error, "orig", error)
    if getattr(cause, "sqlite_errorname", "") == "SQLITE_ERROR":  # wrong SQL
        return ""
    return f"The database cannot be used now: {str(cause).strip().splitlines()[0]}."
