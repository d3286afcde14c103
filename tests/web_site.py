"""A real server with the pages, over a real database with a few papers and people."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from lxml import etree, html
from sqlalchemy import Engine, delete, insert, select
from starlette.types import ASGIApp

from digest import schema
from digest.models import Newcomer, Wishes
from digest.pipeline.accounts import Accounts
from digest.services import build
from digest.settings import Settings
from digest.storage import subscribers
from digest.storage.database import reading, writing
from digest.suppression import address_hash, address_key
from digest.tokens import Purpose, sign
from digest.web import DAILY_PAPERS, WebSite
from digest.web.app import create_app
from digest.web.probe import Probe
from digest.web.server import WebServer, listen
from tests.house import KEY

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
NOW = datetime(2026, 5, 28, 12, tzinfo=UTC)
SECRETS = (b"n" * 32, b"o" * 32)
SITE = WebSite(
    name="Paper Digest",
    tagline="The morning's papers, ranked for you",
    base_url="http://localhost:8000",
    reply_to="help@example.org",
    privacy_contact="privacy@example.org",
    imprint_url="https://example.org/imprint",
    sources=(DAILY_PAPERS, "arXiv"),
)
SENDER = "digest@example.org"
PROBE = Probe(ready=tuple, status=dict, metrics=bytes)  # all is well, nothing to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The server's client, and what lies behind the pages."""

    client: httpx.Client
    engine: Engine
    inbox: Path
    accounts: Accounts
    app: ASGIApp

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def status(self, subscriber_id: int) -> str:
        with reading(self.engine) as connection:
            return subscribers.get(connection, subscriber_id).status

    def empty(self) -> None:
        """Forget everything, for the next test: a server takes longer to start than a test."""
        with writing(self.engine) as connection:
            for table in reversed(schema.metadata.sorted_tables):
                if table is not schema.house:
                    connection.execute(delete(table))
        shutil.rmtree(self.inbox, ignore_errors=True)


@contextmanager
def serving(
    folder: Path,
    *,
    site: WebSite = SITE,
    local: bool = True,
    probe: Probe = PROBE,
    templates: Path = TEMPLATES,
) -> Iterator[Running]:
    """Serve the pages over `folder`, at a free port of this machine."""
    found = build(
        Settings(base_url=SITE.base_url, data_dir=folder, secret_key=(KEY,), sender_address=SENDER),
        clock=lambda: NOW,
    )
    engine, inbox = found.engine, folder / "inbox"
    house = replace(found.accounts, secrets=SECRETS, inbox=inbox if local else None)
    app = create_app(accounts=house, plan=found.plan, templates=templates, site=site, probe=probe)
    try:
        with (
            WebServer(app, listen("127.0.0.1", 0)) as server,
            httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client,
        ):
            yield Running(client=client, engine=engine, inbox=inbox, accounts=house, app=app)
    finally:
        engine.dispose()


def add_paper(engine: Engine, title: str, listed_at: datetime, **values: object) -> int:
    """Store a paper; what is not given is empty."""
    texts = dict.fromkeys(("abstract", "summary", "organisation", "venue", "comment"), "")
    lists: dict[str, list[str]] = {
        name: [] for name in ("authors", "keywords", "categories", "sources")
    }
    row: dict[str, Any] = {
        **texts,
        **lists,
        "title": title,
        "url": "https://example.org/paper",
        "links": {},
        "signals": {},
        "listed_at": listed_at,
        "first_seen_at": listed_at,
        "withdrawn": False,
        **values,
    }
    row["votes"] = row["signals"].get("upvotes", 0)
    with writing(engine) as connection:
        query = insert(schema.paper).values(row).returning(schema.paper.c.id)
        return int(connection.execute(query).scalar_one())


def add_subscriber(engine: Engine, address: str, wishes: Wishes) -> int:
    """Store an active subscriber."""
    key = address_key(address)
    hashes = tuple(address_hash(key, secret=secret) for secret in SECRETS)
    newcomer = Newcomer(address=address, key=key, hashes=hashes, wishes=wishes)
    with writing(engine) as connection:
        subscribers.add_many(connection, [newcomer], now=NOW)
        found = subscribers.find(connection, key)
    assert found is not None
    return found.id


def token(purpose: Purpose, subject: int, *, secrets: Sequence[bytes] = SECRETS) -> str:
    """A good token, made now."""
    return sign(purpose, subject, secrets=secrets, now=NOW)


def dump(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """Everything in every table."""
    with engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in schema.metadata.sorted_tables
        }


def words(page: httpx.Response | etree._Element) -> str:
    """What a page or a part of it says, white space folded."""
    if isinstance(page, httpx.Response):
        [page] = html.fromstring(page.text).cssselect("body")
    return " ".join("".join(str(text) for text in page.itertext()).split())


def sample(site: WebSite = SITE) -> WebSite:
    """The same site with invented papers."""
    return replace(site, sample=True)
