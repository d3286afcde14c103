"""Quoted-printable (RFC 2045 6.7) whose pieces can be put together later, byte by byte.

A piece begins where a line begins and leaves its last line open; `SOFT` goes between two that
share a line. No line begins with a dot or with "From ", so nothing on the way has a reason to
change one. It is written here because a frozen digest must not depend on a library's choices.
"""

from __future__ import annotations

import re

SOFT = b"=\r\n"  # a line end that is none
LINE = 73  # bytes before a soft break; 76 with it and with a first byte written as three

_UNSAFE = re.compile(rb"[^\t\n !-<>-~]")  # what is not printable, and the equals sign
_TRAILING = re.compile(rb"[\t ](?=\n|\Z)")
_SPELLED = [b"=%02X" % byte for byte in range(256)]
_READY = re.compile(rb"[ -<>-~]*[!-<>-~]")  # nothing of that, on one line
_LINES = re.compile(rb".{1,%d}(?<!=)(?<!=.)" % LINE)  # none ends inside of "=3D"


def encode(text: str) -> bytes:
    """The text, its line feeds as CRLF and anything but ASCII as UTF-8."""
    data = text.encode()
    if _READY.fullmatch(data):
        return _broken(data)
    quoted = _TRAILING.sub(_spell, _UNSAFE.sub(_spell, data))
    return b"\r\n".join(map(_broken, quoted.split(b"\n")))


def _spell(match: re.Match[bytes]) -> bytes:
    return _SPELLED[match[0][0]]


def _broken(line: bytes) -> bytes:
    if len(line) <= LINE:
        return _guarded(line)
    return SOFT.join(map(_guarded, _LINES.findall(line)))


def _guarded(line: bytes) -> bytes:
    """The line with its first byte encoded where SMTP or a mailbox would change it."""
    if line.startswith((b".", b"From ")):
        return _SPELLED[line[0]] + line[1:]
    return line
