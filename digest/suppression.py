"""The one key for an address: uniqueness, suppression and import all decide by it."""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

from digest.errors import AddressError

MAX_LENGTH = 254  # RFC 5321, 4.5.3.1.3: a path has 256 octets, its angle brackets included


def address_key(address: str) -> str:
    """The form in which two spellings of one address are equal, as `local@domain`.

    The local part is case-folded and NFC (receivers that tell "A" from "a" are not found in
    practice, people who type both are); the domain is lower-case A-labels (RFC 5890). Applied to
    its own result it changes nothing. Mail goes to the address as typed, never to the key.

    Raises AddressError with a sentence for the person who typed it.
    """
    local, domain = _parts(address)
    # Folding what is decomposed, and composing after: Unicode 3.13, canonical caseless matching.
    folded = unicodedata.normalize("NFD", local).casefold()
    return f"{unicodedata.normalize('NFC', folded)}@{domain}"


def address_hash(key: str, *, secret: bytes) -> str:
    """What is kept of an address after its erasure: 64 hex digits that only `secret` can make."""
    return hmac.digest(secret, b"paper-digest address\0" + key.encode(), "sha256").hex()


def address_hashes(key: str, *, secrets: Sequence[bytes]) -> tuple[str, ...]:
    """The hash of `key` under every secret, newest first, so that a rotation forgets nobody."""
    return tuple(address_hash(key, secret=secret) for secret in secrets)


def provider(address: str) -> str:
    """Who receives mail for `address`: its domain as lower-case A-labels.

    Of an address that was taken once and is no longer to be read, what stands for the domain: it
    stops nobody else's digest.
    """
    return _receiver(address.rpartition("@")[2])


@lru_cache(maxsize=4096)
def _receiver(domain: str) -> str:
    try:
        return _parts(f"postmaster@{domain}")[1]
    except AddressError:
        return domain.lower()


def same_mailbox(address: str, other: str) -> bool:
    """Whether two addresses with one key have one reader for certain: they differ in case at most.

    "ß" and "ss" make one key, so that nobody is written to twice; but a server may tell them apart.
    """
    one, another = (
        unicodedata.normalize("NFC", text.rpartition("@")[0]).lower() for text in (address, other)
    )
    return one == another


def masked(address: str) -> str:
    """`address` for a page that strangers may see: "k…@example.org"."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}"


def _parts(address: str) -> tuple[str, str]:
    if len(address) > MAX_LENGTH:
        raise AddressError(f"The email address is too long: {MAX_LENGTH} characters at most.")
    try:
        found = validate_email(address, check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise AddressError(str(error)) from error
    if found.ascii_domain is None:
        raise AddressError("The part after the @-sign is not a domain name.")
    return found.local_part, found.ascii_domain.lower()
