"""The hub's rule for the names of its repositories; a name that keeps to it is no path."""

from __future__ import annotations

import re

MAX_PART_LENGTH = 96
"""Largest number of characters of an organisation's or a repository's name."""
MAX_REVISION_LENGTH = 200
HUB_RULE = (
    "letters, digits, '-', '_' and '.' in each part, not '-' or '.' at its ends, no '--' or '..', "
    f"at most {MAX_PART_LENGTH} characters, and not '.git' at the end"
)
"""The rule as part of a sentence."""
_PART = re.compile(rf"(?=.{{1,{MAX_PART_LENGTH}}}\Z)\w(?:[\w.-]*\w)?", re.ASCII)
_REVISION = re.compile(rf"(?=.{{1,{MAX_REVISION_LENGTH}}}\Z)\w[\w.+-]*(?:/\w[\w.+-]*)*", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Whether the hub could have a repository `name`, with an organisation (`org/name`) or without (`name`)."""
    parts = name.split("/")
    return (
        len(parts) in {1, 2}
        and all(map(_PART.fullmatch, parts))
        and not any(wrong in name for wrong in ("--", ".."))
        and not name.endswith(".git")
    )


def is_revision(name: str) -> bool:
    """Whether `name` can be a branch, a tag or a commit on the hub, for example `main` or `refs/pr/3`."""
    return bool(_REVISION.fullmatch(name)) and ".." not in name
