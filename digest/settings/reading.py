"""Where settings are written: the environment, `.env`, and files that `X_FILE` names.

Read here rather than by pydantic-settings' own sources, because a person needs three things that
those do not tell: all that is wrong at once, the nearest known name, and each value's origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import SecretStr, ValidationError

from digest.errors import SettingsError, UnknownSetting
from digest.settings.checks import PREFIX, WEEKDAYS
from digest.settings.model import DERIVED, GROUPS, Settings

MASK = "******"
ENVIRONMENT = "environment"
_SECRET = frozenset({"secret_key", "smtp_password", "relays", "alert_webhook", "metrics_token"})
_URL_PASSWORD = re.compile(r"(://[^:/\s]*:)\S*@")
_URL_SECRET = re.compile(r"([?&][^=&\s]*(?:pass|secret|token|key)[^=&\s]*=)[^&\s]*", re.IGNORECASE)
_NAMES = {f"{PREFIX}{field.upper()}": field for field in Settings.model_fields}
_FILE_NAMES = {f"{name}_FILE": name for name in _NAMES}

# How to mend what pydantic's own types refuse; our checks bring their own words.
_MENDING = {
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "float_parsing": "write a number",
    "finite_number": "write a number",
    "greater_than": "write more than {gt}",
    "greater_than_equal": "write {ge} or more",
    "less_than_equal": "write {le} or less",
    "literal_error": "write {expected}",
    "enum": "write {expected}",
    "string_too_short": "write something",
    "string_pattern_mismatch": "it does not have the form {pattern}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting as it is shown: a secret is masked, `origin` says where it was written."""

    name: str
    value: str
    origin: str
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """One value as written: its text, and the place."""

    text: str
    origin: str


def load(environ: Mapping[str, str], env_file: Path | None) -> Settings:
    """Read and check all settings; the environment wins over `env_file`, which may be missing.

    Raises UnknownSetting where the one problem is an unknown name, else SettingsError with all
    problems, one a line. An empty value counts as not written.
    """
    problems: list[SettingsError] = []
    written: dict[str, _Given] = {}
    if env_file and env_file.exists():
        written |= _dotenv(env_file, problems)
    written |= {
        name: _Given(text=text, origin=ENVIRONMENT)
        for name, text in environ.items()
        if name.upper().startswith(PREFIX)
    }
    unknown = sorted(written.keys() - _NAMES.keys() - _FILE_NAMES.keys())
    problems += [UnknownSetting(name, [*_NAMES, *_FILE_NAMES]) for name in unknown]
    given = _follow_files(written, problems)
    settings = _check(given, problems)
    if settings is None or problems:
        raise problems[0] if len(problems) == 1 else SettingsError("\n".join(map(str, problems)))
    settings._origins = {field: value.origin for field, value in given.items()}
    return settings


def _dotenv(path: Path, problems: list[SettingsError]) -> dict[str, _Given]:
    """Read `DIGEST_` lines; other programs may keep theirs in the same file."""
    found: dict[str, _Given] = {}
    try:
        with path.open(encoding="utf-8") as file:
            lines = list(parse_stream(file))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(SettingsError(f"{path} cannot be read: {error}."))
        return found
    for line in lines:
        written = line.original.string
        blank = written[: len(written) - len(written.lstrip())].count("\n")
        place = f"line {line.original.line + blank} of {path}"
        if line.error or (line.key and line.value is None):
            problems.append(SettingsError(f"{place} is not NAME=value."))
        elif line.key and line.value is not None and line.key.upper().startswith(PREFIX):
            if line.key in found:
                problems.append(SettingsError(f"{place} sets {line.key} again; keep one of them."))
            found[line.key] = _Given(text=line.value, origin=place)
    return found


def _follow_files(
    written: Mapping[str, _Given], problems: list[SettingsError]
) -> dict[str, _Given]:
    """Known fields that have a value, with `X_FILE` read."""
    given = {
        _NAMES[name]: value
        for name, value in written.items()
        if name in _NAMES and value.text.strip()
    }
    for file_name, name in _FILE_NAMES.items():
        pointer = written.get(file_name)
        if pointer is None or not pointer.text.strip():
            continue
        path = Path(pointer.text.strip()).expanduser()
        if _NAMES[name] in given:
            problems.append(
                SettingsError(
                    f"{name} is set twice ({given[_NAMES[name]].origin}; {file_name} in"
                    f" {pointer.origin}): keep one of them."
                )
            )
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problems.append(SettingsError(f"{file_name}: {path} cannot be read: {error}."))
            continue
        if text.strip():
            given[_NAMES[name]] = _Given(text=text, origin=f"file {path}")
        else:
            problems.append(SettingsError(f"{file_name}: {path} is empty."))
    return given


def _check(given: Mapping[str, _Given], problems: list[SettingsError]) -> Settings | None:
    """Validate; where fields are wrong, once more without them, to find contradictions too."""
    values: dict[str, Any] = {field: value.text.strip() for field, value in given.items()}
    wrong: set[str] = set()
    while True:
        try:
            settings = Settings(**values)
        except ValidationError as error:
            errors = error.errors(include_url=False)
        else:
            return None if wrong else settings
        fields = {str(item["loc"][0]) for item in errors if item["loc"]} & values.keys()
        for item in errors:
            if item["type"] == "contradiction":
                problems += _contradictions(item["ctx"]["found"], given, wrong)
            elif str(item["loc"][0]) in fields:
                problems.append(SettingsError(_line(str(item["loc"][0]), given, _mend(item))))
        if not fields:
            if not problems:  # a default that follows from others does not fit
                own = [item for item in errors if item["type"] != "default_factory_not_called"]
                problems += [
                    SettingsError(_line(str(item["loc"][0]), given, _mend(item))) for item in own
                ]
            return None
        wrong |= fields
        values = {field: text for field, text in values.items() if field not in wrong}


def _contradictions(
    found: Iterable[tuple[tuple[str, ...], str]], given: Mapping[str, _Given], wrong: set[str]
) -> Iterator[SettingsError]:
    """Those that do not merely follow from a field that is wrong by itself."""
    for names, why in found:
        if wrong.isdisjoint(names):
            yield SettingsError(_line(names[0], given, why))


def _line(field: str, given: Mapping[str, _Given], why: str) -> str:
    name = f"{PREFIX}{field.upper()}"
    if field not in given:
        return f"{name} is not set: {why}."
    text = MASK if field in _SECRET else " ".join(_masked(field, given[field].text).split())
    return f"{name}={text} ({given[field].origin}): {why}."


def _mend(item: Mapping[str, Any]) -> str:
    context = item.get("ctx", {})
    if item["type"] == "value_error":
        return str(context["error"])
    mending = _MENDING.get(item["type"])
    return mending.format_map(context) if mending else str(item["msg"])


def mask_url(text: str) -> str:
    """Hide the password of each URL in a text, and what its query calls one."""
    return _URL_SECRET.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1{MASK}@", text))


def mask_database(text: str) -> str:
    """Hide all of a database's URL that could be a password, however wrong it is written."""
    dialect, colon, rest = text.strip().partition("://")
    if not colon:
        return MASK if set(text) & set(":@=") else text
    if dialect.startswith("sqlite"):
        return text
    login, at, place = rest.rpartition("@")
    if "?" in login:  # which part of it is the password nobody can tell
        return f"{dialect}://{MASK}"
    user, has_password, _ = login.partition(":")
    # Without a user what follows a colon is a port, or a password whose host was forgotten.
    host, port, number = place.partition(":")
    if port and not re.match(r"\d{1,5}(?=[/?]|$)", number) and not host.startswith("["):
        place = f"{host}:{MASK}"
    place, question, query = place.partition("?")
    pairs = question + "&".join(map(_masked_pair, query.split("&"))) if question else ""
    return f"{dialect}://{f'{user}:{MASK}@' if has_password else user + at}{place}{pairs}"


def _masked_pair(pair: str) -> str:
    name, is_pair, _ = pair.partition("=")
    if not is_pair:
        return MASK
    return f"{name}={MASK}" if "pass" in name else pair


def _masked(field: str, text: str) -> str:
    return mask_database(text) if field == "database_url" else mask_url(text)


def describe(settings: Settings) -> tuple[Row, ...]:
    """All settings in order, with secrets masked; origins are those that `load` saw."""
    return tuple(
        Row(
            name=f"{PREFIX}{field.upper()}",
            value=_shown(field, getattr(settings, field)),
            origin=settings._origins.get(field, "default"),
            help=info.description or "",
        )
        for field, info in Settings.model_fields.items()
    )


def _shown(field: str, value: object) -> str:
    """A value as it would be written, secrets apart."""
    if field == "weekday":
        return WEEKDAYS[int(str(value))]
    if field == "feeds" and isinstance(value, tuple):
        return mask_url(" ".join(f"{slug}={url}" for slug, url in value))
    if field == "provider_limits" and isinstance(value, tuple):
        return " ".join(f"{provider}:{limits}" for provider, limits in value)
    if field == "relays" and isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, tuple):
        return ",".join(_shown("", part) for part in value)
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else _masked(field, str(value))


def reference() -> str:
    """docs/settings.md: every setting with its default, as Markdown."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from `digest/settings`; change it there.",
        "",
        "A setting is read from the environment, else from `.env` in the working directory. Each",
        "can also be kept in a file of its own: `DIGEST_X_FILE=/path` reads `DIGEST_X` from there.",
        "Lists are separated by commas or white space. An empty value counts as not set.",
        "`digest config` prints all of them with where each came from, secrets masked.",
    ]
    for field, info in Settings.model_fields.items():
        if field in GROUPS:
            lines += [
                "",
                f"## {GROUPS[field]}",
                "",
                "| setting | default | meaning |",
                "|---|---|---|",
            ]
        default = DERIVED.get(field)
        if default is None:
            text = _shown(field, info.get_default())
            default = f"`{text}`" if text else "none"
        lines.append(f"| `{PREFIX}{field.upper()}` | {default} | {info.description} |")
    return "\n".join(lines) + "\n"
