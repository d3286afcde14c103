"""What one written value must be: text of the environment -> value, or a ValueError that mends.

Each message completes the sentence "DIGEST_X=value: ...".
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

PREFIX = "DIGEST_"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
SOURCES = ("huggingface", "arxiv", "feeds")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_KEY_BYTES = 32
_TOKEN_LETTERS = 16
_KEY_LETTERS = 10  # 32 random bytes have about 30 different letters in base64, 14 in hex
_PLACEHOLDER = re.compile(
    r"change.?(me|this|it)|replace.?(me|this|it)|place.?holder|your.?(own|key|secret)"
    r"|example|insecure|password|not.?(a|so).?secret|(very|super|top).?secret",
    re.IGNORECASE,
)
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def local(host: str | None) -> bool:
    """Whether a host name is this machine's own (the three spellings that the rules know)."""
    return host in LOCAL_HOSTS


def split_words(value: object) -> object:
    """Cut a list at commas and white space; what is no text passes as it is."""
    return tuple(re.split(r"[,\s]+", value.strip(", \t\r\n"))) if isinstance(value, str) else value


def plain(text: str) -> str:
    """Refuse what would break a header or a page: control characters."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ValueError("write it on one line, without control characters")
    return text


def address(text: str) -> str:
    """A mail address; a host such as `localhost` may stand alone. Empty stays empty."""
    # Imported here: it is needed once, and `digest --help` should not wait for it.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415

    if text:
        # The library refuses localhost, which local mode sends from.
        outside = re.sub(r"@localhost$", "@example.org", text)
        try:
            validate_email(outside, check_deliverability=False, globally_deliverable=False)
        except EmailNotValidError as error:
            raise ValueError(f"write a mail address such as digest@example.org ({error})") from None
    return plain(text)


def _split_url(text: str) -> SplitResult:
    try:
        parts = urlsplit(plain(text))
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises where it is no number
    except ValueError:
        usable = False
    if not usable or " " in text:
        raise ValueError("write a full address such as https://digest.example.org")
    return parts


def domain(text: str) -> str:
    """The part of an address after the @-sign, in lower-case A-labels."""
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - as above

    name = text.removeprefix("@")
    try:
        found = validate_email(f"postmaster@{name}", check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError(f"{text!r} is no domain: {error}") from None
    return (found.ascii_domain or name).lower()


def web_page(text: str) -> str:
    """An http(s) URL; empty stays empty."""
    if text:
        _split_url(text)
    return text


def web_root(text: str) -> str:
    """An http(s) URL without path, query or user, as browsers write an origin (RFC 6454, 6.2)."""
    parts = _split_url(text)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"write only {parts.scheme}:// and the host, without a path after it")
    host, port = parts.hostname or "", parts.port
    if not host.isascii():
        import idna  # noqa: PLC0415 - as above

        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(f"{host} is no host name: {error}") from None
    if not all(0 < len(label) < 64 for label in host.removesuffix(".").split(".")):
        raise ValueError(f"{host} is no host name: between dots stand 1 to 63 characters")
    if ":" in host:
        host = f"[{host}]"
    usual = port in (None, {"http": 80, "https": 443}[parts.scheme])
    return f"{parts.scheme}://{host}" + ("" if usual else f":{port}")


def provider(text: str) -> str:
    """An http(s) URL that paths are appended to: no query, no slash at the end."""
    parts = _split_url(text)
    if parts.query or parts.fragment:
        raise ValueError("write it without ? and #")
    return text.rstrip("/")


def public_root(text: str) -> str:
    """The base URL: https, since its links carry tokens, except on this machine."""
    root = web_root(text)
    parts = urlsplit(root)
    if parts.scheme == "http" and not local(parts.hostname):
        raise ValueError(
            f"links in mails carry keys and must be encrypted: write https://{parts.netloc}"
        )
    return root


def database(text: str) -> str:
    """A SQLAlchemy URL of SQLite (a file) or PostgreSQL (by psycopg)."""
    dialect, colon, rest = text.partition("://")
    driver = _DRIVERS.get(dialect)
    if not driver or not colon:
        raise ValueError(
            "write sqlite:////path/to/digest.db or postgresql://user:password@host/name;"
            " no other database is known"
        )
    plain(text)
    if driver == "sqlite":
        if rest.partition("?")[0] in ("", "/", "/:memory:"):
            raise ValueError("name a file, as in sqlite:////path/to/digest.db: memory forgets")
        if not rest.startswith("/"):
            raise ValueError(
                "a file has no host: write sqlite:/// and the path, as in"
                " sqlite:////path/to/digest.db"
            )
    else:
        _postgresql(rest)
    return f"{driver}://{rest}"


def _postgresql(rest: str) -> None:
    """Refuse what SQLAlchemy or libpq would take apart in another way than it was meant."""
    place, _, query = rest.partition("?")
    server, _, name = place.partition("/")
    login, _, hosts = server.rpartition("@")
    # Where a password holds one of these, its end would be taken for a host, and be shown.
    if "@" in login or "@" in unquote(hosts) or "@" in name or "@" in query:
        raise ValueError("write @ / ? # : in a user or password as %40 %2F %3F %23 %3A")
    if "#" in rest or " " in rest:
        raise ValueError("write # and spaces as %23 and %20")
    found = re.fullmatch(r"(?:\[[^\[\]]+\]|[^:\[\]]*)(?::(\d*))?", hosts)
    if found is None or not 0 < int(found.group(1) or 5432) < 65536:
        raise ValueError("the port is a number from 1 to 65535, as in host:5432")
    if any("=" not in pair for pair in query.split("&") if query):
        raise ValueError("after ? write name=value, and & between several")


def token(text: str) -> str:
    """A bearer token; empty stays empty."""
    if 0 < len(text) < _TOKEN_LETTERS:
        raise ValueError(
            f"it has less than {_TOKEN_LETTERS} letters; make one with:"
            ' python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return text


def directory(path: Path) -> Path:
    """An absolute path, so that a later change of the working directory changes nothing."""
    return path.expanduser().absolute()


def present(path: Path) -> Path:
    """A directory that is there."""
    if not path.is_dir():
        raise ValueError(f"there is no directory {path}")
    return path


def secret(text: str, *, which: str = "the key") -> str:
    """A signing key: at least 32 bytes that nobody guesses."""
    mend = 'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
    if _PLACEHOLDER.search(text):
        raise ValueError(f"{which} is a placeholder that everybody knows; {mend}")
    if len(text.encode()) < _KEY_BYTES:
        raise ValueError(f"{which} has less than {_KEY_BYTES} bytes; {mend}")
    if len(set(text)) < _KEY_LETTERS:
        raise ValueError(f"{which} repeats a few letters; {mend}")
    return text


def zone(name: str) -> str:
    """An IANA zone name."""
    known = zoneinfo.available_timezones()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        raise ValueError(f"no such time zone; the nearest name is {near}")
    return name


def locale(tag: str) -> str:
    """The tag of a language that has words, with an underscore: `zh_Hans`."""
    from digest.locales import available  # noqa: PLC0415 - as above, and Babel is large

    known, wanted = sorted(available()), tag.replace("-", "_")
    if wanted not in known:
        raise ValueError(f"there are no words in that language; write one of {', '.join(known)}")
    return wanted


def weekday(value: object) -> object:
    """A day's English name, or its first three letters -> 0 Monday .. 6 Sunday."""
    if not isinstance(value, str):
        return value
    for number, day in enumerate(WEEKDAYS):
        if value.lower() in (day, day[:3]):
            return number
    raise ValueError(f"write one of {', '.join(WEEKDAYS)}")


def feeds(value: object) -> object:
    """`slug=url` pairs, separated by commas or white space -> ((slug, url), ...)."""
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    # A comma inside a URL is the URL's own: only one before the next `slug=http` separates.
    for entry in re.split(r"[,\s]+(?=[^\s,=]+=http)|\s+", value.strip(", \t\r\n")):
        slug, _, url = entry.partition("=")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", slug):
            raise ValueError(
                f"{entry!r} is not slug=url; a slug has small letters, digits and hyphens,"
                " as in openai=https://example.org/feed.xml"
            )
        if slug in found:
            raise ValueError(f"the slug {slug} stands twice; give each feed its own")
        try:
            found[slug] = web_page(plain(url)) or _split_url(url).geturl()
        except ValueError as error:
            raise ValueError(f"the feed {slug}: {error}") from None
    return tuple(found.items())


def category(name: str) -> str:
    """An arXiv category such as cs.CL, or an archive such as math."""
    if not re.fullmatch(r"[a-z]+(-[a-z]+)*(\.[A-Za-z]+(-[a-z]+)*)?", name):
        raise ValueError(f"{name!r} is no arXiv category; write them as in cs.AI,cs.CL")
    return name


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# What cron(5) lets stand in each field: name, least, most, the names that count from the least.
_CRON = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)


def cron(text: str) -> str:
    """Five cron fields of numbers, names, lists, ranges and steps."""
    fields = text.lower().split()
    if len(fields) != len(_CRON):
        raise ValueError("write five cron fields, as in 15 */2 * * *")
    for field, (name, least, most, names) in zip(fields, _CRON, strict=True):
        for part in field.split(","):
            if not _in_range(part, least, most, names):
                raise ValueError(f"{part!r} is no {name} of cron's: write {least} to {most}")
    return " ".join(fields)


def _in_range(part: str, least: int, most: int, names: tuple[str, ...]) -> bool:
    numbers = {word: str(least + number) for number, word in enumerate(names)}
    found = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([1-9]\d?))?", part)
    if found is None:
        return False
    ends = [numbers.get(end, end) for end in found.group(1, 2) if end is not None]
    if not all(re.fullmatch(r"\d{1,2}", end) for end in ends):
        return False
    bounds = [least, *map(int, ends), most]
    return bounds == sorted(bounds)


def distinct(values: tuple[object, ...]) -> tuple[object, ...]:
    """A list without repetition, in the order written."""
    return tuple(dict.fromkeys(values))
