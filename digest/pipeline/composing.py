"""Composing: claimed rows become messages, of parts that are kept, or read once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Protocol

from sqlalchemy import Engine

from digest.errors import NotFound, TemplateError
from digest.models import Message, Part
from digest.pipeline.books import Order
from digest.pipeline.clerk import Clerk
from digest.pipeline.deciding import spoiled
from digest.pipeline.ways import Job
from digest.storage.contents import parts
from digest.storage.database import reading

log = logging.getLogger(__name__)


class Composer(Protocol):
    """Makes messages of frozen contents, of parts that it keeps."""

    def unknown(self, hashes: Collection[str]) -> set[str]:
        """Which parts of the next batch it does not have."""

    def learn(self, parts: Sequence[Part]) -> None:
        """Keep these parts."""

    def assemble(
        self,
        personal: Mapping[str, str],
        skeleton: str,
        cards: Sequence[str],
        lines: Sequence[str],
    ) -> Message:
        """The message; NotFound for a part that it does not have."""


class Desk:
    """Where the messages of one pass are made."""

    def __init__(
        self, engine: Engine, composer: Composer, clerk: Clerk, *, clock: Callable[[], datetime]
    ) -> None:
        self._engine, self._composer, self._clerk, self._clock = engine, composer, clerk, clock

    async def load(self, orders: Sequence[Order]) -> list[Job]:
        """The orders, when the parts of their mails are known; reading waits for no commit."""
        named = [one.content.parts for one in orders]
        missing = self._composer.unknown(set(chain.from_iterable(named)))
        for part in await asyncio.to_thread(self._read, missing) if missing else ():
            try:
                self._composer.learn([part])
                missing.discard(part.hash)
            except Exception:
                log.exception(
                    "Part %s of mails cannot be used.", part.hash, extra={"action": "compose"}
                )
        return [
            Job(order, broken=bool(missing) and not missing.isdisjoint(hashes))
            for order, hashes in zip(orders, named, strict=True)
        ]

    def _read(self, hashes: Collection[str]) -> list[Part]:
        with reading(self._engine) as connection:
            return parts(connection, hashes)

    def compose(self, job: Job) -> bool:
        """Give the job its message; False where there is none, and the clerk was told."""
        content, delivery_id = job.order.content, job.delivery_id
        job.message = None
        if not content.personal:  # erased since it was claimed: the ledger knows, and keeps to it
            log.warning(
                "Delivery %d has no content any more.",
                delivery_id,
                extra={"action": "compose", "delivery": delivery_id},
            )
            self._clerk.report(spoiled(job.order, now=self._clock()))
            return False
        try:
            if job.broken:
                raise TemplateError("A part of this mail is missing.")
            job.message = self._composer.assemble(*content)
        except NotFound:  # a part that made room for others meanwhile: the next claim brings it
            self._clerk.give_back(delivery_id)
        except Exception:
            # A digest that cannot be put together must stop neither the others nor the next pass.
            log.exception(
                "Delivery %d cannot be composed.",
                delivery_id,
                extra={"action": "compose", "delivery": delivery_id},
            )
            self._clerk.report(spoiled(job.order, now=self._clock()))
        return job.message is not None
