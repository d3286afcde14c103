"""The sources: one provider a file, that requests and parses and decides nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from digest.models import Fetch
from digest.sources.http import Client


class Source(Protocol):
    """Where records come from."""

    @property
    def name(self) -> str:
        """The name that its records, state and health rows carry."""

    async def fetch(self, client: Client, *, now: datetime, state: Mapping[str, Any]) -> Fetch:
        """Read what is listed as of `now`; `state` is the last `Fetch.state` that was not None.

        Whatever upstream does becomes a `Fetch` with its health and a reason; only bugs of ours
        are raised. The state may come with a bad health too (a refusal's time, what is known to be
        complete), so it is stored whenever it is there. `now` decides which lists are read;
        waits and refusals run on real time.
        """
