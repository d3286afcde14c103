"""The command line: parse input, call one function, show the result.

Exit codes: 0 done; 1 done, with failures that are named; 2 the person's mistake, with a sentence.
Commands import what they need when they run, so that `digest --help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from digest.cli import house, papers, people, topics
from digest.cli.output import fail
from digest.errors import DigestError

app = typer.Typer(
    name="digest",
    help="Paper Digest: the morning's papers, ranked for each reader, in their inbox.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
house.register(app)
app.add_typer(topics.app, name="topic")
app.add_typer(people.app, name="subscriber")
app.add_typer(papers.app, name="paper")


def main() -> None:
    """The `digest` command."""
    try:
        app()
    except DigestError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `digest status | head`
        sys.stderr.close()
        sys.exit(0)
