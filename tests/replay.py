"""The recorded Hugging Face and arXiv, served over real HTTP on a port of this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Replay:
    """A running replay; `url` is the base of every provider."""

    url: str

    def today(self, day: date) -> None:
        """Set the day that upstream believes it is (UTC)."""
        self._call("/_replay/today", {"today": day.isoformat()})

    def faults(self, faults: list[dict[str, Any]]) -> None:
        """Replace the faults; each is `{"match": path, "times": n, "status" | "kind": ...}`."""
        self._call("/_replay/faults", faults)

    def log(self) -> list[dict[str, Any]]:
        """Every request since the reset: at, method, path, user_agent, status."""
        found: list[dict[str, Any]] = self._call("/_replay/log")
        return found

    def reset(self) -> None:
        """Forget the faults and the log."""
        self._call("/_replay/reset", {})

    def _call(self, path: str, value: object = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, data=body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


def serve(tool: Path, *, seconds: float = 20.0) -> Iterator[Replay]:
    """Run the replay until the generator is closed."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(tool), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        found = Replay(f"http://127.0.0.1:{port}")
        try:
            deadline = time.monotonic() + seconds
            while True:
                try:
                    found.reset()
                    break
                except urllib.error.URLError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield found
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def replay_server(shared_data: Path) -> Iterator[Replay]:
    tool = shared_data.parent / "tools" / "replay.py"
    if not tool.is_file():
        pytest.skip(f"no replay at {tool}")
    yield from serve(tool)


@pytest.fixture
def replay(replay_server: Replay) -> Replay:
    """A replay without faults, log and yesterday's settings; it is 29 May 2026, a Friday."""
    replay_server.reset()
    replay_server.today(date(2026, 5, 29))
    return replay_server
