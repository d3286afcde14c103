"""The keys that sign links: from the settings, else from a file that only its owner reads."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from digest.errors import SettingsError
from digest.settings import checks
from digest.settings.model import Settings

KEY_FILE = "secret.key"


def secret_keys(settings: Settings) -> tuple[bytes, ...]:
    """Return the keys, newest first; on a local base URL a missing file is made.

    Raises SettingsError where there is none and must be one, or where others can read the file.
    """
    if settings.secret_key:
        return tuple(key.get_secret_value().encode() for key in settings.secret_key)
    path = settings.data_dir / KEY_FILE
    if not path.exists():
        if not settings.local_base:
            raise SettingsError(
                f"DIGEST_SECRET_KEY is not set and there is no {path}: links cannot be signed."
                " `make setup` makes that file; if you had one before, put it back, or the"
                " links in mails already sent stop working."
            )
        create_key(settings.data_dir)
    return _read(path)


def create_key(data_dir: Path) -> Path:
    """Put a random key into `data_dir`, readable by its owner alone; keep one that is there.

    The file appears complete or not at all (a hard link, which refuses to replace), so that two
    processes that start at once end with the same key.
    """
    path = data_dir / KEY_FILE
    try:
        if not path.exists():
            _write_new(path)
    except OSError as error:
        raise SettingsError(f"The key file {path} cannot be made: {error.strerror}.") from None
    return path


def _write_new(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{KEY_FILE}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _read(path: Path) -> tuple[bytes, ...]:
    """Read keys separated by white space, newest first."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            keys = file.read().split()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The key file {path} cannot be read: {error}.") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SettingsError(f"Others can read the key file {path}. Run: chmod 600 {path}")
    try:
        return tuple(checks.secret(key, which=f"key {n}").encode() for n, key in _numbered(keys))
    except ValueError as error:
        raise SettingsError(f"The key file {path}: {error}.") from None


def _numbered(keys: list[str]) -> enumerate[str]:
    if not keys:
        raise ValueError("it is empty; remove it and run `make setup`")
    return enumerate(keys, start=1)
