"""Several mail servers, and limits for each and for each receiving provider, in one line each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from digest.settings.checks import local

_PORTS = {"tls": 465, "starttls": 587, "none": 25}
_LIMITS = {"connections": int, "messages": int, "rate": float, "daily": int}
_MOST = {"connections": 512}
_ENCODE = "write / ? # @ : in a user or password as %2F %3F %23 %40 %3A"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSetting:
    """The most that may go one way; None: no limit."""

    connections: int | None = None
    messages: int | None = None  # on one connection
    rate: float | None = None  # messages a second
    daily: int | None = None

    def __str__(self) -> str:
        given = ((name, getattr(self, name)) for name in _LIMITS)
        return ",".join(f"{name}={value:g}" for name, value in given if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySetting:
    """A mail server of DIGEST_RELAYS."""

    host: str
    port: int
    tls: str  # tls | starttls | none
    user: str = ""
    password: str = field(default="", repr=False)
    priority: int = 0
    limits: LimitsSetting = field(default_factory=LimitsSetting)

    def __str__(self) -> str:
        scheme = "smtps" if self.tls == "tls" else "smtp"
        login = f"{quote(self.user, safe='')}:******@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        limits = str(self.limits).replace(",", "&")
        query = "&".join(filter(None, [f"tls={self.tls}", f"priority={self.priority}", limits]))
        return f"{scheme}://{login}{host}:{self.port}?{query}"


def relays(value: object) -> object:
    """`smtps://user:password@host:465?priority=1&rate=20`, several separated by white space."""
    if not isinstance(value, str):
        return value
    found = tuple(_relay(entry) for entry in value.split())
    names = [f"{one.host}:{one.port}" for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} stands twice; give each mail server once")
    return found


def _relay(entry: str) -> RelaySetting:
    try:
        url = urlsplit(entry)
        host, port = url.hostname, url.port
    except ValueError:  # whose words may hold a piece of the password
        raise ValueError(f"one of them is no URL; {_ENCODE}") from None
    if url.scheme not in ("smtp", "smtps") or not host:
        raise ValueError(
            "write each as smtp://host or smtps://host, as in"
            " smtp://user:password@mail.example.org:587?priority=1&rate=20"
        )
    if "@" in url.path + url.query + url.fragment:  # what is taken for the host is a user's name
        raise ValueError(f"one of them ends before its host; {_ENCODE}")
    if url.path not in ("", "/") or url.fragment:
        raise ValueError(f"{host}: nothing follows the port but ?name=value")
    if port == 0:
        raise ValueError(f"{host}: there is no port 0")
    given = _pairs(host, parse_qsl(url.query, keep_blank_values=True))
    tls = given.pop("tls", "tls" if url.scheme == "smtps" else "starttls")
    if tls not in (("tls",) if url.scheme == "smtps" else ("starttls", "none")):
        raise ValueError(f"{host}: tls={tls} is not starttls or none (smtps:// is TLS at once)")
    user, password = unquote(url.username or ""), unquote(url.password or "")
    if bool(user) != bool(password):
        raise ValueError(f"{host}: give both user and password, or neither")
    if user and tls == "none" and not local(host):
        raise ValueError(
            f"{host}: a password must not travel in the clear: use smtps:// or STARTTLS"
        )
    priority = given.pop("priority", "0")
    if not re.fullmatch(r"[0-9]{1,3}", priority):
        raise ValueError(f"{host}: priority={priority} is no number from 0 to 999")
    return RelaySetting(
        host=host,
        port=port or _PORTS[tls],
        tls=tls,
        user=user,
        password=password,
        priority=int(priority),
        limits=_limits(host, given),
    )


def provider_limits(value: object) -> object:
    """`gmail.com:rate=20,daily=50000 *:connections=5` -> ((provider, limits), ...)."""
    if not isinstance(value, str):
        return value
    found = {}
    for entry in value.split():
        provider, colon, rest = entry.partition(":")
        if not provider or not colon:
            raise ValueError(
                f"{entry!r} is not provider:limits, as in gmail.com:rate=20,daily=50000"
            )
        if provider.lower() in found:
            raise ValueError(f"{provider} stands twice; write all its limits in one")
        pairs = [pair.partition("=")[::2] for pair in rest.split(",")]
        found[provider.lower()] = _limits(provider, _pairs(provider, pairs))
    return tuple(found.items())


def _pairs(whose: str, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in pairs:
        if name in found:
            raise ValueError(f"{whose}: {name} stands twice")
        found[name] = text
    return found


def _limits(whose: str, given: dict[str, str]) -> LimitsSetting:
    values = {}
    for name, text in given.items():
        if name not in _LIMITS:
            raise ValueError(f"{whose}: {name!r} is none of {', '.join(_LIMITS)}")
        try:
            number = _LIMITS[name](text)
        except ValueError:
            number = 0
        if not 0 < number < 1e9:
            raise ValueError(f"{whose}: {name}={text} is no number above 0")
        if number > _MOST.get(name, number):
            raise ValueError(f"{whose}: {name}={text} is too many: write {_MOST[name]} or less")
        values[name] = number
    return LimitsSetting(**values)
