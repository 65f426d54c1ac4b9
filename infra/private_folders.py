"""Folders and files that only this user can read, whatever the umask is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from contracts.errors import TreadleError

FOLDER_MODE, FILE_MODE = 0o700, 0o600
UMASK = 0o077
"""For processes whose files are private."""


class NotPrivate(TreadleError):
    """A folder belongs to another user, who could read or replace what is in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} belongs to another user: remove it, or choose another folder")


def create_private(folder: Path) -> Path:
    """Create a folder and its missing parents for this user only; existing ones stay as they are. Returns the folder.

    Raises NotPrivate if the folder belongs to another user, unless this user is root, or if a folder above it was
    created by another user in a place where every user may do so, such as /tmp.
    """
    for path in (*reversed(folder.parents), folder):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        if path.parent.stat().st_mode & stat.S_IWOTH and path.stat().st_uid not in {0, os.geteuid()}:
            raise NotPrivate(path)
    if os.geteuid() not in {0, folder.stat().st_uid}:
        raise NotPrivate(folder)
    return folder


def make_private(folder: Path) -> Path:
    """Create a folder as `create_private` does, and close an existing one to other users."""
    create_private(folder)
    if stat.S_IMODE(folder.stat().st_mode) & UMASK:
        folder.chmod(FOLDER_MODE)
    return folder


def open_private(path: Path, mode: str) -> BinaryIO:
    """Open a file for bytes with mode "wb" or "ab"; a new file is private from the beginning."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, FILE_MODE))  # type: ignore[return-value]
