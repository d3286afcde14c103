"""What the operator chooses: read, checked, explained.

`load` reads the environment, `.env` and `X_FILE`; everything below the services is handed plain
values and never sees the object.
"""

from __future__ import annotations

from digest.settings.keys import KEY_FILE, create_key, secret_keys
from digest.settings.model import Settings
from digest.settings.reading import Row, describe, load, reference
from digest.settings.relays import LimitsSetting, RelaySetting

__all__ = [
    "KEY_FILE",
    "LimitsSetting",
    "RelaySetting",
    "Row",
    "Settings",
    "create_key",
    "describe",
    "load",
    "reference",
    "secret_keys",
]
