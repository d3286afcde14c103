"""Postfix's smtp-sink, a mail server that somebody else wrote, where this machine has it.

It is looked for on PATH, in /usr/sbin, and in the directory that POSTFIX_DIR names, which holds
usr/sbin and usr/lib/postfix: Debian's package, unpacked.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE = 10  # seconds for the server to start


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSink:
    """A running server; `dump` is the file to which it writes what it took."""

    port: int
    dump: Path

    @property
    def recipients(self) -> list[str]:
        """The recipients of the contents that came, in their order."""
        if not self.dump.exists():
            return []
        lines = self.dump.read_text().splitlines()
        return [
            line.removeprefix("X-Rcpt-Args: <").removesuffix(">")
            for line in lines
            if line.startswith("X-Rcpt-Args: ")
        ]


@contextmanager
def smtp_sink(folder: Path, *options: str) -> Iterator[SmtpSink]:
    """Run it with these options; skips the test where it is not to be had."""
    places, environment = [os.environ.get("PATH", ""), "/usr/sbin"], dict(os.environ)
    if unpacked := os.environ.get("POSTFIX_DIR"):
        places.append(f"{unpacked}/usr/sbin")
        environment["LD_LIBRARY_PATH"] = f"{unpacked}/usr/lib/postfix"
    program = shutil.which("smtp-sink", path=os.pathsep.join(places))
    if program is None:
        pytest.skip("no smtp-sink here: install postfix, or unpack it and set POSTFIX_DIR")
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    # Started by root it gives up its rights before it writes.
    rights = ["-u", "nobody"] if os.geteuid() == 0 else []
    folder.chmod(0o777)
    with subprocess.Popen(
        [program, *rights, "-D", "dump", *options, f"127.0.0.1:{port}", "100"],
        cwd=folder,
        env=environment,
    ) as process:
        try:
            _await_listening(port)
            yield SmtpSink(port=port, dump=folder / "dump")
        finally:
            process.terminate()


def _await_listening(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < until, "smtp-sink does not listen"
        else:
            return
