"""Being asked to end, by a signal or by two that are one."""

from __future__ import annotations

import math
import time

_ONE = 0.25  # seconds


class Asked:
    """Tells a signal that asks to end from its echo, which asks nothing more.

    timeout(1) signals its child and then the group that its child is in, and so does who closes a
    terminal: at the same moment, and two of them mean "at once".
    """

    def __init__(self) -> None:
        self._at = -math.inf

    def anew(self) -> bool:
        """Whether the signal that has just come is not the echo of the last one."""
        now = time.monotonic()
        is_echo = now - self._at < _ONE
        self._at = now
        return not is_echo
