"""Secrets that are created once and stored beside the data that they protect."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def load_or_create_secret(path: Path) -> str:
    """The secret in `path`; if there is none, it is created, readable only by this user."""
    if not path.exists():
        write_private(path, secrets.token_hex(20))
    return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, also while it is being written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
