"""Every error that a person can mend, in one tree: the message is written here, once.

An error of this tree is shown as one sentence, without a traceback. Anything else is a bug of
ours and stays loud.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime


class DigestError(Exception):
    """Something that the person who runs the service can mend; str() says what and how."""


class SettingsError(DigestError):
    """A setting is missing, malformed, unknown or contradicts another one."""


class UnknownSetting(SettingsError):
    """A `DIGEST_` name that no setting has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        near = difflib.get_close_matches(name.upper(), list(known), n=1, cutoff=0.0)
        super().__init__(f"{name} is not a setting. Did you mean {near[0]}?")
        self.name = name


def N_(sentence: str) -> str:  # noqa: N802 - the name by which gettext's tools collect it
    """The sentence, marked for translation where it is said."""
    return sentence


class TopicSyntaxError(DigestError):
    """A topic's filter does not parse; `position` is the 0-based character where.

    `sentence` is for gettext, `values` are for its places; `message` is both in English.
    """

    def __init__(self, sentence: str, *, query: str, position: int, **values: str | int) -> None:
        self.message = sentence % values
        super().__init__(self.message)
        self.sentence, self.values = sentence, values
        self.query, self.position = query, position

    def __str__(self) -> str:
        return f"{self.message} (at character {self.position + 1})\n  {self.query}\n  " + (
            " " * self.position + "^"
        )


class NotFound(DigestError):
    """Something that was named does not exist."""


class AlreadyExists(DigestError):
    """Something with that name is there already."""


class InputError(DigestError):
    """A file, field or option holds something that cannot be used."""


class AddressError(DigestError):
    """An e-mail address that cannot be written to."""


class ScheduleError(DigestError):
    """A zone, hour, frequency or day that does not exist."""


class TemplateError(DigestError):
    """A template is missing or does not render."""


class SchemaError(DigestError):
    """The database's tables are not those of this version; the message names the command."""


class RestoredDatabase(DigestError):
    """The database was put back from a backup, and what was sent since is not settled."""


class TokenError(DigestError):
    """A link's token is malformed, of another purpose, or signed by no key that we have."""


class TokenExpired(TokenError):
    """A link's token was good once; a newer mail has a newer one."""


class Busy(DigestError):
    """Another process holds what this one needs (one delivers at a time)."""


class LeaseLost(DigestError):
    """This worker was taken for dead: others may have its rows, and it must stop at once."""


class SourceError(DigestError):
    """A source's answer cannot be used.

    `refused` tells "told to wait" (until `retry_at`, where it said) from "broken"; `status` and
    `body` are those of an HTTP error, whose text says what the source did not like.
    """

    def __init__(
        self,
        message: str,
        *,
        refused: bool = False,
        retry_at: datetime | None = None,
        status: int | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.refused, self.retry_at = refused, retry_at
        self.status, self.body = status, body


class BrokenAnswer(SourceError):
    """An answer that is cut off, or a web page where data was asked for: worth another try."""


class DeliveryError(DigestError):
    """The mail server, or the way to it, said no.

    `permanent` is the bit that matters (5yz); `host` says that it concerns the server, not the
    recipient (421, connection, TLS, login); `unknown` that the content went out and no answer
    came; `at_rcpt` that it was said of the recipient's address; `code` and `text` are the server's
    own words.
    """

    def __init__(
        self,
        text: str,
        *,
        code: int | None = None,
        permanent: bool = False,
        host: bool = False,
        unknown: bool = False,
        at_rcpt: bool = False,
    ) -> None:
        super().__init__(f"{code} {text}" if code else text)
        self.text, self.code, self.at_rcpt = text, code, at_rcpt
        self.permanent, self.host, self.unknown = permanent, host, unknown
