"""What is shipped: the wheel, the lock, the operator's files, and nothing of any one machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from digest import locales
from digest.settings import load
from digest.settings.checks import PREFIX
from digest.settings.model import Settings
from digest.web import middleware

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names inside a wheel built from the checkout."""
    [path] = WheelBuilder(str(ROOT)).build(
        directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"]
    )
    return set(zipfile.ZipFile(path).namelist())


@pytest.mark.parametrize(
    ("folder", "inside"),
    [
        ("templates", "digest/templates"),
        ("digest/migrations", "digest/migrations"),
        ("digest/locales", "digest/locales"),
    ],
)
def test_the_wheel_carries_data_files(folder: str, inside: str, wheel: set[str]) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    wanted = {
        f"{inside}/{path.relative_to(ROOT / folder)}"
        for path in files
        if "__pycache__" not in path.parts
    }
    assert wanted
    assert wanted <= wheel


def test_the_wheel_speaks_every_language(wheel: set[str]) -> None:
    tags = locales.available() - {locales.SOURCE}
    assert tags
    assert {f"digest/locales/{tag}/LC_MESSAGES/digest.po" for tag in tags} <= wheel
    assert not [name for name in wheel if name.endswith((".mo", ".pot"))]


def test_the_wheel_carries_the_program_and_no_more(wheel: set[str]) -> None:
    assert {"digest/__init__.py", "digest/settings/model.py", "digest/scheduler.py"} <= wheel
    outside = {
        name for name in wheel if not re.match(r"digest/|paper_digest-[^/]*\.dist-info/", name)
    }
    assert not outside
    assert not [name for name in wheel if "secret" in name or name.endswith((".db", ".env"))]


def test_the_lock_pins_everything_by_hash() -> None:
    entries = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE))
    names = set()
    for entry in entries:
        match = re.match(r"([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==[^\s;]+ ", entry)
        assert match, entry
        assert "--hash=sha256:" in entry, entry
        names.add(match[1])
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["postgres"],
        *PROJECT["dependency-groups"]["dev"],
    ]
    assert {re.split(r"[^a-z0-9-]", name.lower())[0] for name in wanted} <= names


def test_the_services_lock_is_its_part_of_the_other() -> None:
    text = (ROOT / "requirements-service.lock").read_text(encoding="utf-8")
    whole, part = _entries(LOCK), _entries(text)
    assert {name: pin for name, pin in part.items() if whole.get(name) != pin} == {}
    wanted = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["postgres"],
    ]
    service = {canonicalize_name(Requirement(line).name) for line in wanted}
    assert service <= part.keys()
    dev = {
        canonicalize_name(Requirement(line).name) for line in PROJECT["dependency-groups"]["dev"]
    }
    assert not part.keys() & (dev - service)
    assert not part.keys() & {"pip", "setuptools", "wheel", "pluggy", "coverage", "greenlet"}
    needed = {
        canonicalize_name(Requirement(line).name)
        for name in part
        for line in _requirements(name)
        if "extra ==" not in line and _holds(Requirement(line))
    }
    assert needed <= part.keys()


def _holds(needed: Requirement) -> bool:
    return needed.marker is None or needed.marker.evaluate()


def _entries(lock: str) -> dict[str, str]:
    """Each package's pin and hashes, by its name without extras."""
    lines = re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE)
    entries = re.split(r"\n(?=[a-z])", lines.strip())
    return {re.split(r"[\[=]", entry)[0]: entry for entry in entries}


def test_the_lock_names_the_extras_that_are_asked_for() -> None:
    """With hashes pip takes `coverage[toml]` for another package than `coverage`.

    It then looks for its newest version, and refuses that one as soon as it is not the pinned one.
    """
    pins = re.findall(r"^([a-z0-9-]+)(?:\[([a-z0-9,-]+)\])?==", LOCK, flags=re.MULTILINE)
    extras = {name: set(filter(None, found.split(","))) for name, found in pins}
    asked: dict[str, set[str]] = {}
    for name, of_its in extras.items():
        for line in _requirements(name):
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *of_its)
            ):
                asked.setdefault(canonicalize_name(needed.name), set()).update(needed.extras)
    assert asked["coverage"] == {"toml"}
    assert {name: found for name, found in asked.items() if found - extras.get(name, set())} == {}


def _requirements(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # of another Python or system
        return []


# Written in pieces, so that this file does not contain what it looks for.
FOREIGN = re.compile(
    "|".join(
        (
            r"(?<![\w.])/" + r"(root|home/\w+|Users/\w+|work|tmp/\w+)/",
            r"index-" + r"url|find-" + r"links|trusted-" + r"host",
            r"pypi\." + r"org|pythonhosted\." + r"org|file:" + r"///\w",
        )
    )
)
OPTIONS_OF_OURS = re.compile(r"--no-emit-[a-z-]+")


def tracked() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_machine_or_an_index() -> None:
    found = []
    for path in tracked():
        text = OPTIONS_OF_OURS.sub("", path.read_text(encoding="utf-8", errors="replace"))
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in FOREIGN.finditer(text)]
    assert not found


FOREIGN_CASES = {
    "a path of root": "/" + "root/x/y",
    "a path in quotes": "'/" + "work/main'",
    "a home": "see /" + "home/ada/notes",
    "an index": "--index-" + "url https://example.org",
    "an index's host": "https://files.pythonhosted" + ".org/packages",
}


@pytest.mark.parametrize("text", FOREIGN_CASES.values(), ids=FOREIGN_CASES)
def test_the_check_itself(text: str) -> None:
    assert FOREIGN.search(text)


def test_the_example_needs_only_a_password(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    (tmp_path / ".env").write_text(text)
    settings = load({"DIGEST_SMTP_PASSWORD": "hunter2"}, tmp_path / ".env")
    assert not settings.local
    assert settings.base_url == "https://digest.example.org"


def test_every_line_of_the_example_is_a_setting(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    filled = re.sub(rf"^#({PREFIX}[A-Z_]+=)", r"\1", text, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(filled)
    settings = load({"DIGEST_SMTP_PASSWORD": "hunter2"}, tmp_path / ".env")
    named = re.findall(rf"^{PREFIX}([A-Z_]+)=", filled, flags=re.MULTILINE)
    assert len(named) == len(set(named)) > 25
    assert dict(settings.feeds).keys() == {"lab", "other"}


def test_the_example_shows_true_defaults(tmp_path: Path) -> None:
    """What is commented out says what holds without it, where it is no example of a name."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(rf'^#{PREFIX}([A-Z_]+)="?([^"\n]*)', text, flags=re.MULTILINE))
    (tmp_path / ".env").write_text(text)
    settings = load({"DIGEST_SMTP_PASSWORD": "hunter2"}, tmp_path / ".env")
    for name, value in shown.items():
        actual = getattr(settings, name.lower())
        if "example.org" in value or name in {"DATABASE_URL", "SECRET_KEY", "DATA_DIR"}:
            continue
        shown_value = ",".join(actual) if isinstance(actual, tuple) else str(actual)
        assert value == shown_value, name


def test_systemd_gives_who_sends_time_to_end() -> None:
    unit = (ROOT / "contrib" / "paper-digest.service").read_text(encoding="utf-8")
    said = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    assert int(said["TimeoutStopSec"]) > Settings.model_fields["drain_seconds"].default
    assert said["KillMode"] == "mixed"  # those of --processes are told by the first one


KEY = "AbC-123_x" * 4
TOKEN_PATHS = {
    "unsubscribe": ("/u/AbC-123_x", "/u/REDACTED"),
    "preferences": ("/settings/AbC-123_x?saved=1", "/settings/REDACTED"),
    "deeper": ("/u/AbC/more", "/u/REDACTED"),
    "an opinion": ("/f/AbC-123_x/12/more", "/f/REDACTED"),
    "the way back": ("/undo/AbC", "/undo/REDACTED"),
    "copied wrong": (f"/U/{KEY}", None),
    "quoted by a mail program": (f"/%75/{KEY}", None),
    "a quoted key": (f"/%75/%41{KEY[:20]}%41{KEY[20:]}", None),
    "for another host": (f"https://evil.example/u/{KEY}", None),
    "in another address": (f"/nowhere?from=/u/{KEY}", None),
    "lost": ("/me", "/me"),
    "a page": ("/papers/2026-05-28?page=2", "/papers/2026-05-28?page=2"),
    "a search": ("/search?q=%22chain+of+thought%22", "/search?q=%22chain+of+thought%22"),
    "an asset": ("/static/style.0123456789ab.css", "/static/style.0123456789ab.css"),
    "another page": ("/feed.atom", "/feed.atom"),
}


@pytest.mark.parametrize(("path", "logged"), TOKEN_PATHS.values(), ids=TOKEN_PATHS)
def test_proxies_log_no_keys(path: str, logged: str | None) -> None:
    """`logged`: None where the two write it in another way, but without the key."""
    caddy = (ROOT / "contrib" / "Caddyfile").read_text(encoding="utf-8")
    filters = re.findall(r"request>uri regexp `([^`]+)` `([^`]+)`", caddy)
    assert len(filters) == 2  # the server's own log and the access log
    for pattern, replacement in filters:
        found = re.sub(pattern, replacement.replace("${1}", r"\1"), path)
        assert logged is None or found == logged
        assert KEY[:20] not in found
    nginx = (ROOT / "contrib" / "nginx.conf").read_text(encoding="utf-8")
    assert "map $uri$is_args$args $digest_uri {" in nginx
    parts = urlsplit(path)
    seen = unquote(parts.path) + (f"?{parts.query}" if parts.query else "")
    found = path  # $request_uri
    for pattern, replacement in reversed(re.findall(r'"~([^"]+)"\s+"([^"]+)";', nginx)):
        if match := re.search(pattern.replace("(?<", "(?P<"), seen):
            found = replacement.replace("$digest_page", match.groupdict().get("digest_page", ""))
    assert logged is None or found == logged
    assert KEY[:20] not in found


def test_proxies_log_no_keys_beside_the_path() -> None:
    """A page's address is the referrer of the next; who confirms is led to their preferences."""
    caddy = (ROOT / "contrib" / "Caddyfile").read_text(encoding="utf-8")
    for field in ("request>headers>Referer", "resp_headers>Location"):
        assert caddy.count(f"{field} delete") == 2
    assert caddy.count(f"({middleware.TOKENS})/") == 2
    nginx = (ROOT / "contrib" / "nginx.conf").read_text(encoding="utf-8")
    assert f"{middleware.TOKENS})/" in nginx
    assert "$request_uri" not in nginx.split("log_format")[1].split(";")[0]
    assert "$http_referer" not in nginx
    servers = nginx.split("\nserver {")[1:]
    assert ["error_log /dev/null" in server for server in servers] == [True, True]
    assert not re.search(r"error_log (?!/dev/null )", nginx)
    assert "return 301 https://$server_name$request_uri;" in nginx  # $host is what anybody writes


MAKE = shutil.which("make")
PYTHONS = {
    "none is new enough": ("exit 1", "Python 3.11 or newer is missing: install it (Debian 12"),
    "venv is split off": (
        'case "$2" in *ensurepip*) exit 1;; *print*) echo python3.12-venv;; esac',
        "python3.14 lacks venv: install it (Debian, Ubuntu: sudo apt install python3.12-venv).",
    ),
}


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
@pytest.mark.parametrize(("script", "words"), PYTHONS.values(), ids=PYTHONS)
def test_make_says_what_to_install(script: str, words: str, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python"):
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    assert MAKE is not None
    done = subprocess.run(
        [MAKE, "setup"],
        cwd=tmp_path,
        env={"PATH": str(commands)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert line.startswith(words)


def test_make_setup_makes_the_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "digest.settings"]
    environ = {"PYTHONPATH": str(ROOT), "DIGEST_DATA_DIR": str(tmp_path / "var")}
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)
    key = (tmp_path / "var" / "secret.key").read_text()
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)
    assert (tmp_path / "var" / "secret.key").read_text() == key
    broken = subprocess.run(
        command,
        cwd=tmp_path,
        env=environ | {"DIGEST_HOUR": "25"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)
    assert "DIGEST_HOUR=25" in broken.stderr


def test_the_reference_knows_every_setting() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert re.findall(rf"^\| `{PREFIX}(\w+)`", text, flags=re.MULTILINE) == [
        field.upper() for field in Settings.model_fields
    ]
