"""Lets one other user open paths below a private folder, by access control lists in the kernel's format."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

ATTRIBUTE = "system.posix_acl_access"
VERSION = 2
HEADER, ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
OWNER, USER, GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20
"""Kinds of entries: the owner, a named user, the owner's group, the most that users and groups get, all others."""
NO_ID = 0xFFFFFFFF
TRAVERSE = 0o1

Entries = dict[tuple[int, int], int]
"""The permission bits by kind and id."""


def open_passage(folder: Path, user: int) -> None:
    """Let `user` (an id) traverse `folder` and the folders above it, without reading any of them.

    Folders that every user may traverse stay as they are. On a file system without access control lists, the right to
    traverse is given to all users.
    """
    for step in (folder, *folder.resolve().parents):
        if not step.stat().st_mode & TRAVERSE:
            _let_through(step, user)


def _let_through(folder: Path, user: int) -> None:
    entries = _entries(folder)
    entries[USER, user] = entries.get((USER, user), 0) | TRAVERSE
    entries[MASK, NO_ID] = entries.get((MASK, NO_ID), entries[GROUP, NO_ID]) | TRAVERSE
    packed = (ENTRY.pack(kind, bits, of) for (kind, of), bits in sorted(entries.items()))
    try:
        os.setxattr(folder, ATTRIBUTE, HEADER.pack(VERSION) + b"".join(packed))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        folder.chmod(folder.stat().st_mode | TRAVERSE)


def _entries(folder: Path) -> Entries:
    """The list of a folder; if it has none, the one that its mode stands for."""
    try:
        stored = os.getxattr(folder, ATTRIBUTE)
    except OSError as error:
        if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
            raise
        mode = folder.stat().st_mode
        return {(OWNER, NO_ID): mode >> 6 & 7, (GROUP, NO_ID): mode >> 3 & 7, (OTHERS, NO_ID): mode & 7}
    return {(kind, of): bits for kind, bits, of in ENTRY.iter_unpack(stored[HEADER.size :])}
