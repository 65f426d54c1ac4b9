"""Separates an answer from the reasoning before it."""

from __future__ import annotations

import re

REASONING_END = re.compile(r"<\s*/\s*(?:think|thinking|thought|reasoning|reason)\s*>|\[/THINK\]", re.IGNORECASE)
"""Matches the end of a block of reasoning, as models write it; some tokenizers decode it with spaces."""


def without_reasoning(predicted: str, expected: str) -> str:
    """Return what follows the last closed block of reasoning, unless the reference has such a block too."""
    if REASONING_END.search(expected):
        return predicted
    return REASONING_END.split(predicted)[-1]
