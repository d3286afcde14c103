"""Tokens in links: opaque, signed, each good for one purpose, without an address inside.

A token is 30 bytes, 40 characters of URL-safe base64 without padding, so no character has spare
bits and every change is seen. Its first 16 bytes are the HMAC of purpose and content; they also
choose the mask that hides the content (a synthetic initialisation vector, as in RFC 5297), so
that a link tells neither how many people subscribe nor who came first. The same input always
gives the same token: a retried mail is the same mail.
"""

from __future__ import annotations

import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from digest.errors import TokenError, TokenExpired

if TYPE_CHECKING:
    from hashlib import _Hash as HASH

LENGTH = 40  # characters, whatever the purpose
MAC = 16  # bytes: nobody guesses 128 bits
BLOCK = sha256().block_size
CONTENT = struct.Struct(">QHI")  # subject, generation, expiry in Unix seconds (0: never)
SHAPE = re.compile(rf"[A-Za-z0-9_-]{{{LENGTH}}}")


class Purpose(StrEnum):
    """What a token allows; the signature of one is worth nothing for another."""

    UNSUBSCRIBE = "unsubscribe"  # subject: subscriber
    PREFERENCES = "preferences"  # subject: subscriber
    FEEDBACK = "feedback"  # subject: digest
    VIEW = "view"  # subject: digest
    CONFIRM = "confirm"  # subject: the evidence that somebody was asked
    UNDO = "undo"  # subject: the evidence that somebody left
    CHANGE = "change"  # subject: ticket; so are the next two
    EXPORT = "export"
    ERASE = "erase"
    CHOOSE = "choose"  # subject: a random number, by which a page knows what was asked on it
    SAVED = "saved"  # subject: subscriber; the feed of what they saved, to be read alone


_YEAR, _HOUR = timedelta(days=365), timedelta(hours=1)
# An old mail's way out must work for ever, and so must a feed that somebody's reader fetches, until
# it is revoked; other links end.
LIFETIMES: dict[Purpose, timedelta | None] = {
    Purpose.UNSUBSCRIBE: None,
    Purpose.PREFERENCES: _YEAR,
    Purpose.FEEDBACK: _YEAR,
    Purpose.VIEW: _YEAR,
    Purpose.CONFIRM: timedelta(days=7),
    Purpose.UNDO: _HOUR,
    Purpose.CHANGE: _HOUR,
    Purpose.EXPORT: _HOUR,
    Purpose.ERASE: _HOUR,
    Purpose.CHOOSE: _HOUR,
    Purpose.SAVED: None,
}
GENERATIONS = 2**16  # after these they begin anew


# A digest's subject: whose it is and its slot, for its links are made before it has an id. The
# slot's date is its distance from the first day, and 16 bits of that last until 2199.
_FIRST_DAY = date(2020, 1, 1).toordinal()
_DAYS = 16


def digest_subject(subscriber_id: int, slot: date) -> int:
    """The subject of a digest's token."""
    days = slot.toordinal() - _FIRST_DAY
    if not 0 <= days < 1 << _DAYS:
        raise ValueError(f"no digest has the slot {slot}")
    return subscriber_id << _DAYS | days


def digest_of(subject: int) -> tuple[int, date]:
    """The subscriber and the slot that `digest_subject` made a subject of."""
    days = subject & ((1 << _DAYS) - 1)
    return subject >> _DAYS, date.fromordinal(_FIRST_DAY + days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a good token says: whom or what it is about, and which generation of links it is."""

    subject: int
    generation: int


def sign(
    purpose: Purpose, subject: int, *, secrets: Sequence[bytes], now: datetime, generation: int = 0
) -> str:
    """A token made with the newest secret, `secrets[0]`; it ends the purpose's lifetime after now.

    `generation` (0..65535) lets one person's links be replaced, by whoever compares it.
    """
    content = CONTENT.pack(subject, generation, _expiry(purpose, now))
    mac = _mac(purpose, content, secret=secrets[0])
    sealed = mac + _mask(purpose, content, mac=mac, secret=secrets[0])
    return urlsafe_b64encode(sealed).decode("ascii")


def verify(token: str, purpose: Purpose, *, secrets: Sequence[bytes], now: datetime) -> Claim:
    """What `token` says, if any of `secrets` signed it for `purpose`.

    Raises TokenExpired if it was good once, TokenError for everything else.
    """
    if not SHAPE.fullmatch(token):
        raise TokenError("This link is not complete.")
    sealed = urlsafe_b64decode(token)
    mac, masked = sealed[:MAC], sealed[MAC:]
    for secret in secrets:
        content = _mask(purpose, masked, mac=mac, secret=secret)
        if hmac.compare_digest(mac, _mac(purpose, content, secret=secret)):
            subject, generation, expires = CONTENT.unpack(content)
            if expires and now.timestamp() >= expires:
                raise TokenExpired("This link has expired.")
            return Claim(subject=subject, generation=generation)
    raise TokenError("This link was not made here, or not for this page.")


@lru_cache(maxsize=64)  # all mails of a batch share theirs
def _expiry(purpose: Purpose, now: datetime) -> int:
    lifetime = LIFETIMES[purpose]
    return int((now + lifetime).timestamp()) if lifetime else 0


def _mac(purpose: Purpose, content: bytes, *, secret: bytes) -> bytes:
    return _keyed("token", purpose, secret, content)[:MAC]


def _mask(purpose: Purpose, content: bytes, *, mac: bytes, secret: bytes) -> bytes:
    stream = _keyed("token mask", purpose, secret, mac)[: len(content)]
    masked = int.from_bytes(content, "big") ^ int.from_bytes(stream, "big")
    return masked.to_bytes(len(content), "big")


def _keyed(use: str, purpose: Purpose, secret: bytes, content: bytes) -> bytes:
    """The HMAC (RFC 2104) of a label for this use and purpose, and the content."""
    keyed, around = _labelled(use, purpose, secret)
    inner, outer = keyed.copy(), around.copy()
    inner.update(content)
    outer.update(inner.digest())
    return outer.digest()


@lru_cache(maxsize=64)  # to take up the key anew takes longer than all the rest of a token
def _labelled(use: str, purpose: Purpose, secret: bytes) -> tuple[HASH, HASH]:
    """Both hashes of the HMAC, as far as the key and the label make them."""
    if len(secret) > BLOCK:
        secret = sha256(secret).digest()
    inner, outer = (
        sha256(bytes(byte ^ pad for byte in secret.ljust(BLOCK, b"\0"))) for pad in (0x36, 0x5C)
    )
    inner.update(f"paper-digest {use} {purpose}\0".encode())
    return inner, outer
