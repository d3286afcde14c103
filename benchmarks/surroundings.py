"""The recorded day that benchmarks read over HTTP, and a house that reads it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from digest.sample import SampleSource
from digest.services import Services, build, with_sources
from digest.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
NOW = datetime(2026, 5, 29, 6, tzinfo=UTC)  # the recorded day, a Friday, after all was announced
PATIENCE = 20  # seconds for a server to start


@contextmanager
def replay() -> Iterator[str]:
    """The recorded Hugging Face and arXiv, at the URL; an empty one where they are absent."""
    tool = SHARED / "tools" / "replay.py"
    if not tool.is_file():
        yield ""
        return
    port = free_port()
    command = [sys.executable, str(tool), "--port", str(port), "--today", f"{NOW:%Y-%m-%d}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            await_port(port)
            url = f"http://127.0.0.1:{port}"
            # The replay reads its files when first asked; that is none of our time.
            for path in ("api/daily_papers", "rss/cs.AI", "api/query?id_list=1706.03762"):
                urllib.request.urlopen(f"{url}/{path}", timeout=PATIENCE).close()
            yield url
        finally:
            process.terminate()


def free_port() -> int:
    """One that nobody listens on now."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def await_port(port: int) -> None:
    """Wait until a server listens there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def house(folder: Path, database_url: str, sources_url: str) -> Iterator[Services]:
    """Services at NOW that read `sources_url`, or the invented sample where that is empty."""
    local = sources_url or "http://127.0.0.1"
    settings = Settings(
        base_url="https://digest.example.org",
        data_dir=folder,
        database_url=database_url,
        secret_key=("kq3ZxT8mW1rYp5uB7nC9vE2dF4gH6jL0",),
        smtp_host="127.0.0.1",
        smtp_tls="none",
        sender_address="digest@example.org",
        postal_address="Example Lab, 1 Example Street, 12345 Example Town",
        hf_url=local,
        arxiv_url=local,
        arxiv_rss_url=local,
        arxiv_interval=0,
    )
    found = build(settings, clock=lambda: NOW)
    if not sources_url:
        found = with_sources(
            found,
            [
                SampleSource(name="huggingface", kind="huggingface"),
                SampleSource(name="arxiv", kind="arxiv"),
                SampleSource(name="feed:sample", kind="feed"),
            ],
            sample=True,
        )
    try:
        yield found
    finally:
        found.engine.dispose()
