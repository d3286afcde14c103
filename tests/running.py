"""Our programs as they are really run: processes of their own, with settings of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEDULER = [sys.executable, str(ROOT / "scheduler.py")]
DIGEST = [sys.executable, "-c", "from digest.cli import main; main()"]


def environment(tmp_path: Path, **settings: str) -> dict[str, str]:
    """This process's environment with these settings alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIGEST_")}
    settings = {"DATA_DIR": str(tmp_path / "data"), **settings}
    named = {f"DIGEST_{name}": value for name, value in settings.items()}
    return {**kept, "PYTHONPATH": str(ROOT), **named}


@contextlib.contextmanager
def running(
    tmp_path: Path, env: dict[str, str], command: Sequence[str] = SCHEDULER
) -> Iterator[subprocess.Popen[str]]:
    """A program of ours in a process of its own, in an empty directory."""
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port() -> int:
    with contextlib.closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_until(check: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def feed(now: datetime) -> bytes:
    """Three papers of two hours ago, as RSS."""
    items = "".join(
        f"<item><title>Something new in the laboratory, part {number}</title>"
        f"<link>https://lab.example.org/{number}</link><guid>{number}</guid>"
        f"<description>We show what we found.</description>"
        f"<pubDate>{format_datetime(now - timedelta(hours=2))}</pubDate></item>"
        for number in range(3)
    )
    return (
        f'<?xml version="1.0"?><rss version="2.0"><channel><title>Lab</title>{items}'
        "</channel></rss>"
    ).encode()


@contextlib.contextmanager
def serving_feed(body: bytes) -> Iterator[str]:
    """A web server on this machine that answers every request with `body`; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/rss+xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/feed"
        finally:
            server.shutdown()
