"""Log lines: for people, or one JSON object a line; each may carry `action=` and ids."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

# What every LogRecord has; anything else came in by `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Libraries that say at INFO what belongs to DEBUG, some of it with addresses or whole URLs.
_QUIET = {
    **dict.fromkeys(
        ("CSSUTILS", "alembic", "httpcore", "httpx", "mail", "procrastinate", "uvicorn"),
        logging.WARNING,
    ),
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
    return {name: value for name, value in vars(record).items() if name not in _USUAL}


class _Human(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        line = f"{at} {record.levelname:<7} {record.getMessage()}"
        pairs = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{line}  [{pairs}]{trace}" if pairs else f"{line}{trace}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
