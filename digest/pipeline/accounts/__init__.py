"""The accounts of readers, who never log in: a link is all that they have.

    ask, choose, lost_link --> request --answer--> mail: CONFIRM --confirm--> active
                                     `---> mail: PREFERENCES
    active --leave--> out --undo, for an hour--> active, paused or weekly
    request_change, request_export, request_erasure --> mail: a ticket --> change, export, erase_by

Pages call these functions with an `Accounts` and what a token is about (`opened`, which reads
alone). Each changes something only when called by a POST, and once, however often it is called.
"""

from __future__ import annotations

from digest.pipeline.accounts.asking import answer, ask, choose, lost_link
from digest.pipeline.accounts.base import Accounts, Limits, settings_link
from digest.pipeline.accounts.confirming import Confirmed, confirm
from digest.pipeline.accounts.leaving import (
    Instead,
    Left,
    Why,
    explain,
    leave,
    pause,
    resume,
    stop,
    undo,
    weekly,
)
from digest.pipeline.accounts.limits import Refusal
from digest.pipeline.accounts.links import (
    Opened,
    known,
    opened,
    renew,
    renew_saved_link,
    saved_link,
)
from digest.pipeline.accounts.tickets import (
    Moved,
    change,
    erase,
    erase_by,
    export,
    request_change,
    request_erasure,
    request_export,
)

__all__ = [
    "Accounts",
    "Confirmed",
    "Instead",
    "Left",
    "Limits",
    "Moved",
    "Opened",
    "Refusal",
    "Why",
    "answer",
    "ask",
    "change",
    "choose",
    "confirm",
    "erase",
    "erase_by",
    "explain",
    "export",
    "known",
    "leave",
    "lost_link",
    "opened",
    "pause",
    "renew",
    "renew_saved_link",
    "request_change",
    "request_erasure",
    "request_export",
    "resume",
    "saved_link",
    "settings_link",
    "stop",
    "undo",
    "weekly",
]
