"""`python -m digest.settings`: make the key that signs links, where none is set yet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from digest.errors import DigestError
from digest.settings import create_key, load


def main() -> None:
    """Exit with the problem, and 1, where the settings cannot be used."""
    try:
        settings = load(os.environ, Path(".env"))
        if not settings.secret_key:
            create_key(settings.data_dir)
    except DigestError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
