"""Which language a page speaks: what its address asks for, else the browser, else the house."""

from __future__ import annotations

import re
from collections.abc import Collection

_PART = re.compile(r"([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)(?:\s*;\s*q=(1|0(?:\.\d{0,3})?))?")
_LONGEST = 500  # characters of the header that are looked at
# A browser names a country where the words differ by script (RFC 5646, 2.2.3 and BCP 47's tables).
_SCRIPTS = {"zh": "zh_Hans", "zh_cn": "zh_Hans", "zh_sg": "zh_Hans"}


def preferred(header: str, *, known: Collection[str], default: str) -> str:
    """The best of the `known` tags by an Accept-Language header (RFC 9110, 12.5.4).

    `default` where none of them is asked for; what is wanted equally, the first one.
    """
    best, wanted = default, 0.0
    for part in header[:_LONGEST].split(","):
        found = _PART.fullmatch(part.strip())
        if found is None:
            continue
        weight = float(found[2] or 1)
        tag = nearest(found[1], known=known)
        if tag and weight > wanted:
            best, wanted = tag, weight
    return best


def nearest(tag: str, *, known: Collection[str]) -> str:
    """The known tag that says `tag`: itself, or what it is a kind of; empty where there is none."""
    by_name = {name.lower(): name for name in known}
    whole = tag.replace("-", "_").lower()
    parts = _SCRIPTS.get(whole, whole).lower().split("_")
    while parts:
        if found := by_name.get("_".join(parts)):
            return found
        parts.pop()
    return ""
