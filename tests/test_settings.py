"""Settings: what is accepted, what each mistake is told, and where values come from."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from digest.errors import DigestError, SettingsError, UnknownSetting
from digest.models import Frequency
from digest.settings import Settings, create_key, describe, load, reference, secret_keys
from digest.settings.checks import PREFIX
from digest.settings.model import GROUPS

ROOT = Path(__file__).resolve().parents[1]
KEY = secrets.token_urlsafe(32)
OLD_KEY = secrets.token_urlsafe(32)
PUBLIC = {
    "BASE_URL": "https://digest.example.org",
    "SMTP_HOST": "smtp.example.org",
    "SENDER_ADDRESS": "digest@example.org",
}


def given(values: Mapping[str, str]) -> Settings:
    return load({PREFIX + name: text for name, text in values.items()}, None)


def refused(values: Mapping[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        given(values)
    return str(caught.value).splitlines()


ACCEPTED = {
    "nothing set": ({}, "local", True),
    "slash dropped": ({"BASE_URL": "http://localhost:9000/"}, "base_url", "http://localhost:9000"),
    "host in lower case": (
        PUBLIC | {"BASE_URL": "https://Digest.Example.ORG"},
        "base_url",
        "https://digest.example.org",
    ),
    "the usual port dropped": (
        PUBLIC | {"BASE_URL": "https://digest.example.org:443"},
        "base_url",
        "https://digest.example.org",
    ),
    "as browsers write it": (
        PUBLIC | {"BASE_URL": "https://Bücher.example.org:8443/"},
        "base_url",
        "https://xn--bcher-kva.example.org:8443",
    ),
    "IPv6 kept": ({"BASE_URL": "http://[::1]:8000"}, "base_url", "http://[::1]:8000"),
    "IPv6 loopback is local": ({"BASE_URL": "http://[::1]:8000"}, "local", True),
    "a mail server ends local mode": (
        {"SMTP_HOST": "smtp.example.org", "SENDER_ADDRESS": "a@example.org"},
        "local",
        False,
    ),
    "postgresql gets its driver": (
        {"DATABASE_URL": "postgresql://u:p@db/digest"},
        "database_url",
        "postgresql+psycopg://u:p@db/digest",
    ),
    "postgres is postgresql": (
        {"DATABASE_URL": "postgres://db/digest"},
        "database_url",
        "postgresql+psycopg://db/digest",
    ),
    "sqlite stays": ({"DATABASE_URL": "sqlite:////x/d.db"}, "database_url", "sqlite:////x/d.db"),
    "sqlite in the data directory": (
        {"DATA_DIR": "/srv/digest"},
        "database_url",
        "sqlite:////srv/digest/digest.db",
    ),
    "language": ({"LOCALE": "de"}, "locale", "de"),
    "language as browsers write it": ({"LOCALE": "zh-Hans"}, "locale", "zh_Hans"),
    "port of starttls": (PUBLIC, "smtp_port", 587),
    "port of tls": (PUBLIC | {"SMTP_TLS": "tls"}, "smtp_port", 465),
    "port of none": (PUBLIC | {"SMTP_TLS": "none"}, "smtp_port", 25),
    "port given": (PUBLIC | {"SMTP_PORT": "2525"}, "smtp_port", 2525),
    "list id from the sender": (PUBLIC, "list_id", "digest.example.org"),
    "sender in local mode": ({}, "sender_address", "digest@localhost"),
    "sender's name from the site": ({"SITE_NAME": "Lab Reads"}, "sender_name", "Lab Reads"),
    "contact from the sender": (PUBLIC, "contact", "digest@example.org"),
    "contact from privacy": (
        PUBLIC | {"PRIVACY_CONTACT": "dpo@example.org"},
        "contact",
        "dpo@example.org",
    ),
    "no contact at localhost": ({}, "contact", ""),
    "weekday by name": ({"WEEKDAY": "Friday"}, "weekday", 4),
    "weekday short": ({"WEEKDAY": "sun"}, "weekday", 6),
    "frequency": ({"FREQUENCY": "weekdays"}, "frequency", Frequency.WEEKDAYS),
    "lists by comma and line": (
        {"CATEGORIES": "cs.AI, math\nastro-ph.CO,cs.AI"},
        "categories",
        ("cs.AI", "math", "astro-ph.CO"),
    ),
    "feeds": (
        {"FEEDS": "a=https://example.org/x?q=1,2,b=https://example.org/b\nc=http://example.org"},
        "feeds",
        (
            ("a", "https://example.org/x?q=1,2"),
            ("b", "https://example.org/b"),
            ("c", "http://example.org"),
        ),
    ),
    "retry steps": ({"RETRY_STEPS_MINUTES": "1 2 3"}, "retry_steps_minutes", (1, 2, 3)),
    "one source": ({"SOURCES": "arxiv"}, "sources", ("arxiv",)),
    "a replay may be fast": (
        {
            "ARXIV_URL": "http://127.0.0.1:9/",
            "ARXIV_RSS_URL": "http://localhost:9",
            "ARXIV_INTERVAL": "0",
        },
        "arxiv_url",
        "http://127.0.0.1:9",
    ),
    "a password to this machine": (
        PUBLIC
        | {"SMTP_HOST": "127.0.0.1", "SMTP_TLS": "none", "SMTP_USER": "u", "SMTP_PASSWORD": "p"},
        "smtp_user",
        "u",
    ),
    "an empty value is not set": ({"HOUR": "", "SMTP_HOST": " "}, "hour", 8),
    "unicode address": (
        PUBLIC | {"REPLY_TO": "grüße@exämple.org"},
        "reply_to",
        "grüße@exämple.org",
    ),
}


@pytest.mark.parametrize(("values", "field", "value"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(values: Mapping[str, str], field: str, value: object) -> None:
    assert getattr(given(values), field) == value


REFUSED = {
    "not a number": ({"HOUR": "eight"}, "HOUR=eight (environment): write a whole number."),
    "too large": ({"HOUR": "24"}, "HOUR=24 (environment): write 23 or less."),
    "too small": ({"MAX_PAPERS": "0"}, "MAX_PAPERS=0 (environment): write 1 or more."),
    "not finite": ({"MIN_SCORE": "inf"}, "write a number"),
    "no such choice": ({"SMTP_TLS": "ssl"}, "write 'tls', 'starttls' or 'none'"),
    "no such frequency": ({"FREQUENCY": "hourly"}, "write 'daily', 'weekdays' or 'weekly'"),
    "no such weekday": ({"WEEKDAY": "noday"}, "write one of monday"),
    "no such language": (
        {"LOCALE": "xx"},
        "there are no words in that language; write one of de, en, es, fr, ja, zh_Hans.",
    ),
    "a country without words of its own": ({"LOCALE": "pt_BR"}, "write one of de, en"),
    "no such zone": ({"ZONE": "Europe/Berln"}, "nearest name is Europe/Berlin"),
    "zone in the wrong case": ({"ZONE": "europe/berlin"}, "nearest name is Europe/Berlin"),
    "zone as a path": ({"ZONE": "../etc/passwd"}, "no such time zone"),
    "base URL with a path": ({"BASE_URL": "http://localhost/digest"}, "without a path"),
    "base URL with a user": ({"BASE_URL": "http://me:pw@localhost"}, "BASE_URL=http://me:******@"),
    "base URL of no host name": (
        PUBLIC | {"BASE_URL": "https://bü_cher.example.org"},
        "is no host name",
    ),
    "base URL with two dots": (PUBLIC | {"BASE_URL": "https://a..b"}, "between dots stand"),
    "a default that is none": (
        {"BASE_URL": "https://paper_digest.example.org", "SMTP_HOST": "mail"},
        "DIGEST_LIST_ID is not set",
    ),
    "base URL without a scheme": ({"BASE_URL": "localhost:8000"}, "write a full address"),
    "base URL with a broken port": ({"BASE_URL": "http://localhost:x"}, "write a full address"),
    "base URL in the clear": (
        PUBLIC | {"BASE_URL": "http://digest.example.org"},
        "write https://digest.example.org",
    ),
    "another dialect": ({"DATABASE_URL": "mysql://u:secret@h/d"}, "u:******@h/d"),
    "another driver": ({"DATABASE_URL": "postgresql+asyncpg://h/d"}, "no other database"),
    "database in memory": ({"DATABASE_URL": "sqlite:///:memory:"}, "memory forgets"),
    "database nowhere": ({"DATABASE_URL": "sqlite://"}, "memory forgets"),
    "a database file with a host": ({"DATABASE_URL": "sqlite://digest.db"}, "a file has no host"),
    "a port that is a word": ({"DATABASE_URL": "postgresql://u@h:port/d"}, "the port is a number"),
    "a port that is too big": ({"DATABASE_URL": "postgresql://h:70000/d"}, "the port is a number"),
    "a database URL's end": ({"DATABASE_URL": "postgresql://h/d?sslmode"}, "write name=value"),
    "a short token": ({"METRICS_TOKEN": "t" * 15}, "less than 16 letters"),
    "no templates": ({"TEMPLATES_DIR": "/nowhere"}, "there is no directory /nowhere"),
    "address without a host": ({"REPLY_TO": "me"}, "write a mail address"),
    "address with a newline": ({"REPLY_TO": "a@example.org\nBcc: b@example.org"}, "mail address"),
    "name with a newline": ({"SITE_NAME": "Lab\nBcc: b@example.org"}, "write it on one line"),
    "not five cron fields": ({"COLLECT_CRON": "hourly"}, "write five cron fields"),
    "feed without a slug": ({"FEEDS": "https://example.org/feed"}, "is not slug=url"),
    "feed without an address": ({"FEEDS": "a=example.org"}, "the feed a: write a full address"),
    "feed with nothing": ({"FEEDS": "a="}, "the feed a: write a full address"),
    "feed twice": (
        {"FEEDS": "a=http://example.org/1 a=http://example.org/2"},
        "the slug a stands twice",
    ),
    "no such source": ({"SOURCES": "huggingface,twitter"}, "write 'huggingface'"),
    "no such category": ({"CATEGORIES": "cs.AI,Computer"}, "'Computer' is no arXiv category"),
    "short key": ({"SECRET_KEY": KEY[:31]}, "key 1 of 1 has less than 32 bytes"),
    "placeholder key": ({"SECRET_KEY": "changeme" * 5}, "is a placeholder"),
    "the second key is weak": ({"SECRET_KEY": f"{KEY},{'x' * 40}"}, "key 2 of 2 repeats"),
    "mail server missing": (
        {"BASE_URL": "https://digest.example.org"},
        "DIGEST_SMTP_HOST is not set: name the mail server",
    ),
    "sender missing": (
        {"SMTP_HOST": "smtp.example.org"},
        "DIGEST_SENDER_ADDRESS is not set: write the address",
    ),
    "local mode on all networks": ({"WEB_HOST": "0.0.0.0"}, "listens on 127.0.0.1 only"),
    "password in the clear": (
        PUBLIC | {"SMTP_TLS": "none", "SMTP_USER": "u", "SMTP_PASSWORD": "p"},
        "must not travel in the clear",
    ),
    "password without a user": (PUBLIC | {"SMTP_PASSWORD": "p"}, "SMTP_USER is not set"),
    "user without a password": (PUBLIC | {"SMTP_USER": "u"}, "SMTP_PASSWORD is not set"),
    "arXiv too fast": ({"ARXIV_INTERVAL": "1"}, "arXiv asks for 3 s"),
    "arXiv too fast for its feed": (
        {"ARXIV_INTERVAL": "1", "ARXIV_URL": "http://127.0.0.1:9"},
        "arXiv asks for 3 s",
    ),
    "forgets what it may choose again": ({"RETENTION_DAYS": "14"}, "write 15 or more"),
    "the longest window is not the longest": ({"LOOKBACK_HOURS": "360"}, "LOOKBACK_HOURS and"),
    "two servers at one port": ({"PROBE_PORT": "8000"}, "DIGEST_PROBE_PORT=8000 (environment)"),
    "nothing counts": ({"WEIGHT_TREND": "0", "WEIGHT_TOPIC": "0"}, "both weights are 0"),
    "a webhook that is none, and may hold a secret": (
        {"ALERT_WEBHOOK": "hooks.example.org/s3cret"},
        "ALERT_WEBHOOK=****** (environment): write a full address",
    ),
    "alerts for nobody": ({"ALERT_MAIL": "admin"}, "write a mail address"),
    "digests forgotten too soon": ({"DIGEST_RETENTION_DAYS": "60"}, "write 90 or more"),
    "digests forgotten before their attempts": (
        {"RETENTION_DAYS": "500"},
        "DIGEST_RETENTION_DAYS is not set: a digest is kept as long as its attempts",
    ),
    "final answer sooner than others": ({"SMTP_FINAL_TIMEOUT": "5"}, "write at least"),
}


@pytest.mark.parametrize(("values", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(values: Mapping[str, str], words: str) -> None:
    [line] = refused(values)
    assert words in line
    assert line.startswith(PREFIX)


def test_all_problems_are_told_at_once() -> None:
    lines = refused(
        {
            "HOUR": "25",
            "ZONE": "Mars",
            "SMPT_HOST": "smtp.example.org",
            "SECRET_KEY": "short-and-secret",
            "BASE_URL": "https://digest.example.org",
            "RETENTION_DAYS": "2",
        }
    )
    names = [line.split("=")[0].split(" ")[0].removeprefix(PREFIX) for line in lines]
    assert sorted(names) == [
        *("HOUR", "RETENTION_DAYS", "SECRET_KEY", "SMPT_HOST", "SMTP_HOST", "ZONE")
    ]
    assert not [line for line in lines if "short-and-secret" in line or "pydantic" in line]


def test_what_follows_from_a_mistake_is_not_told_twice() -> None:
    [line] = refused({"BASE_URL": "ftp://digest.example.org", "WEB_HOST": "0.0.0.0"})
    assert "BASE_URL" in line


UNKNOWN = {
    "misspelt": ("DIGEST_SMPT_HOST", "DIGEST_SMTP_HOST"),
    "misspelt file": ("DIGEST_SMTP_PASWORD_FILE", "DIGEST_SMTP_PASSWORD_FILE"),
    "wrong case": ("digest_hour", "DIGEST_HOUR"),
}


@pytest.mark.parametrize("in_file", [False, True], ids=["environment", ".env"])
@pytest.mark.parametrize(("name", "near"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_names_get_the_nearest(name: str, near: str, in_file: bool, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text(f"{name}=x\n" if in_file else "")
    with pytest.raises(UnknownSetting, match=f"Did you mean {near}"):
        load({} if in_file else {name: "x"}, env_file)


def test_origins_and_precedence(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2 $HOME\n")
    env_file = tmp_path / ".env"
    env_file.write_text(
        "# a comment\nOTHER=left alone\nDIGEST_HOUR=5\nexport DIGEST_SITE_NAME='Lab $HOME Reads'\n"
        f"DIGEST_SMTP_PASSWORD_FILE={password}\nDIGEST_SMTP_USER=u\n"
    )
    settings = load({"DIGEST_HOUR": "6", "PATH": "/bin", **_prefixed(PUBLIC)}, env_file)
    rows = {row.name: row for row in describe(settings)}
    assert settings.hour == 6
    assert settings.site_name == "Lab $HOME Reads"
    assert settings.smtp_password.get_secret_value() == "hunter2 $HOME"
    assert rows["DIGEST_HOUR"].origin == "environment"
    assert rows["DIGEST_SITE_NAME"].origin == f"line 4 of {env_file}"
    assert rows["DIGEST_SMTP_PASSWORD"].origin == f"file {password}"
    assert rows["DIGEST_ZONE"].origin == "default"


def _prefixed(values: Mapping[str, str]) -> dict[str, str]:
    return {PREFIX + name: text for name, text in values.items()}


def test_every_setting_can_come_from_a_file(tmp_path: Path) -> None:
    """The file of each setting holds what `describe` says of its default."""
    environ = {}
    for row in describe(load({}, None)):
        if row.value:
            (tmp_path / row.name).write_text(f"{row.value}\n")
            environ[f"{row.name}_FILE"] = str(tmp_path / row.name)
    assert {row.origin for row in describe(load(environ, None)) if row.value} == {
        f"file {tmp_path / name.removesuffix('_FILE')}" for name in environ
    }


FILES = {
    "missing": (None, "cannot be read"),
    "empty": (b" \n", "is empty"),
    "not UTF-8": (b"\xff\xfe", "cannot be read"),
}


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES)
def test_broken_secret_files(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    [line] = refused({"SMTP_PASSWORD_FILE": str(path)})
    assert line.startswith("DIGEST_SMTP_PASSWORD_FILE")
    assert words in line


def test_a_value_and_its_file_is_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "hour").write_text("7")
    [line] = refused({"HOUR": "7", "HOUR_FILE": str(tmp_path / "hour")})
    assert line.startswith("DIGEST_HOUR is set twice")


ENV_FILES = {
    "no equals sign": (b"DIGEST_HOUR\n", "line 1 of .* is not NAME=value"),
    "open quote": (b"\nDIGEST_HOUR='8\n", "line 2 of .* is not NAME=value"),
    "twice": (b"DIGEST_HOUR=8\nDIGEST_HOUR=9\n", "line 2 of .* sets DIGEST_HOUR again"),
    "not UTF-8": (b"DIGEST_HOUR=\xff\n", "cannot be read"),
}


@pytest.mark.parametrize(("content", "words"), ENV_FILES.values(), ids=ENV_FILES)
def test_broken_env_files(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError, match=words):
        load({}, tmp_path / ".env")


def test_a_missing_env_file_is_fine(tmp_path: Path) -> None:
    assert load({}, tmp_path / ".env").local


def test_secrets_are_shown_nowhere() -> None:
    hidden = {
        "key": KEY,
        "password": "hunter2-smtp",
        "database": "hunter2-db",
        "webhook": "hunter2-hook",
        "token": "hunter2-metrics-token",
        "key file": "hunter2-ssl",
        "feed": "hunter2-f",
        "feed's key": "hunter2-g",
    }
    settings = given(
        PUBLIC
        | {
            "SECRET_KEY": hidden["key"],
            "SMTP_USER": "u",
            "SMTP_PASSWORD": hidden["password"],
            "DATABASE_URL": f"postgresql://u:{hidden['database']}@h/d?sslpassword="
            + hidden["key file"],
            "ALERT_WEBHOOK": f"https://hooks.example.org/{hidden['webhook']}",
            "METRICS_TOKEN": hidden["token"],
            "FEEDS": f"a=https://u:{hidden['feed']}@example.org/feed?api_key="
            + hidden["feed's key"],
        }
    )
    shown = " ".join(row.value for row in describe(settings))
    for name, text in hidden.items():
        assert text not in shown, name
    assert not [text for text in list(hidden.values())[:-2] if text in repr(settings)]
    assert "postgresql+psycopg://u:******@h/d" in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter@2@h/d",
        "postgresql://u:hunter/2@h/d",
        "postgresql://u:hunter?2@h/d",
        "postgresql://u:a?b=hunter@h/d",
        "postgresql://u:hunter#2@h/d",
        "postgresql://u:p hunter@h/d",
        "postgresql://u:hunter",
        "postgresql://u:5432hunter/d",
        "postgresql://u%40x:hunter@h:x/d",
        "postgresql://h/d?user=u&password=a@hunter",
        "postgresql://h:x/d?user=u&password=hunter",
        "postgresql://h/d?user=u&password=a&hunter",
        "postgresql:u:hunter@h/d",
        "mysql://u:hunter@h/d",
        "u:hunter@h/d",
    ],
)
def test_a_wrong_database_url_keeps_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        given({"DATABASE_URL": url})
    assert "DIGEST_DATABASE_URL=" in str(caught.value)
    assert "hunter" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40ss%2F@h:5432/d",
        "postgresql:///d?host=/tmp/x&user=u",
        "postgresql://u@[::1]:5433/d?sslmode=require&connect_timeout=3",
        "postgresql://u:p@one,two/d",
        "postgresql://db",
    ],
)
def test_a_database_url_that_is_right(url: str) -> None:
    found = given({"DATABASE_URL": url}).database_url
    assert found == url.replace("postgresql", "postgresql+psycopg", 1)
    make_url(found)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        given({}).hour = 9  # type: ignore[misc]


def test_the_object_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGEST_HOUR", "3")
    assert Settings().hour == 8
    with pytest.raises(ValidationError, match="DIGEST_SMTP_HOST: name the mail server"):
        Settings(base_url="https://digest.example.org")


def test_the_reference_is_up_to_date() -> None:
    path = ROOT / "docs" / "settings.md"
    assert path.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_each_setting_is_explained_in_one_sentence() -> None:
    for row in describe(given({})):
        assert re.fullmatch(r"[A-Z].*[^.]\.", row.help), row.name
    assert GROUPS.keys() <= Settings.model_fields.keys()
    assert next(iter(GROUPS)) == next(iter(Settings.model_fields))


def test_a_local_key_is_made_once(tmp_path: Path) -> None:
    settings = given({"DATA_DIR": str(tmp_path / "var")})
    [key] = secret_keys(settings)
    path = tmp_path / "var" / "secret.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(key) >= 32
    assert secret_keys(settings) == (key,)
    assert [file.name for file in path.parent.iterdir()] == ["secret.key"]


def test_starting_together_ends_with_one_key(tmp_path: Path) -> None:
    settings = given({"DATA_DIR": str(tmp_path)})
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: secret_keys(settings), range(32)))) == 1


def test_a_public_site_does_not_invent_its_key(tmp_path: Path) -> None:
    settings = given(PUBLIC | {"DATA_DIR": str(tmp_path)})
    with pytest.raises(SettingsError, match=r"DIGEST_SECRET_KEY is not set.*make setup"):
        secret_keys(settings)
    assert not list(tmp_path.iterdir())
    create_key(tmp_path)
    assert len(secret_keys(settings)) == 1


def test_the_setting_wins_over_the_file(tmp_path: Path) -> None:
    create_key(tmp_path)
    settings = given({"DATA_DIR": str(tmp_path), "SECRET_KEY": f"{KEY}, {OLD_KEY}"})
    assert secret_keys(settings) == (KEY.encode(), OLD_KEY.encode())


def test_a_key_file_holds_several(tmp_path: Path) -> None:
    path = create_key(tmp_path)
    [old] = secret_keys(given({"DATA_DIR": str(tmp_path)}))
    path.write_text(f"{KEY}\n{old.decode()}\n")
    assert secret_keys(given({"DATA_DIR": str(tmp_path)})) == (KEY.encode(), old)


KEY_FILES = {
    "others read it": (KEY, 0o640, "chmod 600"),
    "others write it": (KEY, 0o602, "chmod 600"),
    "empty": ("", 0o600, "it is empty"),
    "weak": ("changeme", 0o600, "is a placeholder"),
}


@pytest.mark.parametrize(("text", "mode", "words"), KEY_FILES.values(), ids=KEY_FILES)
def test_key_files_that_are_refused(text: str, mode: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(DigestError, match=words) as caught:
        secret_keys(given({"DATA_DIR": str(tmp_path)}))
    assert not text or text not in str(caught.value)


def test_a_key_directory_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        secret_keys(given({"DATA_DIR": str(tmp_path)}))


def test_a_relative_data_directory_is_fixed_at_start() -> None:
    assert given({"DATA_DIR": "here"}).data_dir == Path.cwd() / "here"
    assert given({"DATA_DIR": "~/digest"}).data_dir == Path.home() / "digest"
