"""Secrets that are made once and kept beside the data they guard."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def kept_secret(path: Path) -> str:
    """The secret in `path`; made, and readable by this user only, where there is none yet."""
    if not path.exists():
        write_private(path, secrets.token_hex(20))
    return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but this user can read, from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
