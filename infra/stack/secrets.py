"""Secrets that are created once and stored beside the data that they protect."""

from __future__ import annotations

import secrets
from pathlib import Path

from infra.private_folders import open_private


def load_or_create_secret(path: Path) -> str:
    """The secret in `path`; if there is none, it is created, readable only by this user."""
    if not path.exists():
        write_private(path, secrets.token_hex(20))
    return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, also while it is being written."""
    with open_private(path, "wb") as file:
        file.write(text.encode())
