"""Log lines: for people, or one JSON object a line; each may carry `action=` and ids."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# What every LogRecord has; anything else came in by `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Where PostgreSQL quotes the row that it did not like, with the address in it.
_QUOTED = re.compile(r"^[ |]*(?:DETAIL|CONTEXT):.*\n?", re.MULTILINE)
_BREAK = re.compile(r"\s*[\r\n]\s*")
# Libraries that say at INFO what belongs to DEBUG, some of it with addresses or whole URLs.
_QUIET = {
    **dict.fromkeys(
        ("CSSUTILS", "alembic", "httpcore", "httpx", "mail", "procrastinate", "uvicorn"),
        logging.WARNING,
    ),
    # It warns at each try; that the database is away is said by whoever needed it.
    "psycopg.pool": logging.ERROR,
    # It warns each time that a long delivery is still at work when the next one is due.
    "apscheduler": logging.ERROR,
}


def configure(level: str, format: str) -> None:  # noqa: A002 - what the setting is called
    """Send log lines of `level` and above to standard error, as `human` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if format == "json" else _Human())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, logging.getLogger().level))


def _extra(record: logging.LogRecord) -> dict[str, object]:
    found = {name: value for name, value in vars(record).items() if name not in _USUAL}
    return {"action": record.name, **found}  # libraries name none


def _plain(value: object) -> object:
    """A count by name as people write it."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{number}" for name, number in value.items())
    return value


class _Formatter(logging.Formatter):
    def formatException(self, exc_info: Any) -> str:  # noqa: N802 - the name that logging gave it
        return _QUOTED.sub("", super().formatException(exc_info))

    def message_of(self, record: logging.LogRecord) -> str:
        return _QUOTED.sub("", record.getMessage())


class _Human(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        pairs = " ".join(
            f"{name}={_plain(value)}" for name, value in _extra(record).items() if value != {}
        )
        words = f"{self.message_of(record).strip()}  [{pairs}]"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{at} {record.levelname:<7} {_BREAK.sub(' ', words)}{trace}"


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message_of(record),
            **_extra(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
