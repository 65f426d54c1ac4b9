"""Named SQL: each statement in `control/sql/*.sql` has its name in the `-- name:` line above it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries() -> Mapping[str, str]:
    """All statements by name; the files are read once."""
    folder = files("control") / "sql"
    texts = [file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(".sql")]
    return dict(pair for text in texts for pair in _statements(text))


def migrations() -> list[tuple[int, str, str]]:
    """Number, file name and script of each migration, in order."""
    folder = files("control") / "sql" / "migrations"
    scripts = [(file.name, file.read_text(encoding="utf-8")) for file in folder.iterdir() if file.name.endswith(".sql")]
    return [(int(name.split("_")[0]), name, script) for name, script in sorted(scripts)]


def _statements(text: str) -> list[tuple[str, str]]:
    _, *parts = HEADER.split(text)
    return list(zip(parts[::2], (sql.strip() for sql in parts[1::2]), strict=True))
