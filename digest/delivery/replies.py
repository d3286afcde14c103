"""A server's replies: their shape, whose fault a refusal is, and words fit to be kept."""

from __future__ import annotations

import re
from typing import NamedTuple

from digest.errors import DeliveryError

# RFC 5321 section 3.8: 421 closes the channel; RFC 4954 section 6: the login is missing or no good.
# None of these says anything of the recipient.
_OURS = {421, 530, 534, 535, 538}
_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})\b")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Reply(NamedTuple):
    """One reply (RFC 5321 section 4.2): its code, and its lines without the code."""

    code: int
    lines: bytes


def enhanced_code(text: str) -> str | None:
    """The enhanced status code (RFC 3463) that a server's words begin with."""
    found = _ENHANCED.match(text)
    return found[1] if found else None


def refusal(reply: Reply, recipient: str, *, at_rcpt: bool = False) -> DeliveryError:
    """What a reply other than the one that was hoped for means.

    RFC 5321 section 4.3.2: a code that a client does not know means what its first digit means.
    """
    kind = reply.code // 100
    return DeliveryError(
        reply_words(reply, recipient),
        code=reply.code,
        # RFC 5321 section 4.5.3.1.10: 552 to RCPT means "too many", and is to be read as 452.
        permanent=kind == 5 and not (reply.code == 552 and at_rcpt),
        host=reply.code in _OURS or kind not in (4, 5),
        at_rcpt=at_rcpt,
    )


def reply_words(reply: Reply, recipient: str) -> str:
    """The words of a reply, as `words` makes them."""
    return words(reply.lines.decode("utf-8", "surrogateescape"), recipient)


def words(text: str, recipient: str = "") -> str:
    """A server's words on one line that every database takes, and without the recipient."""
    # Every message passes here: what the usual "2.0.0 Ok: queued as 4F2A" does not need is skipped.
    if recipient and "@" in text:
        text = re.sub(f"<?{re.escape(recipient)}>?", "<recipient>", text, flags=re.IGNORECASE)
    if not text.isprintable():
        text = _UNPRINTABLE.sub(" ", text)
    return " ".join(text.split())[:500] or "no words"
