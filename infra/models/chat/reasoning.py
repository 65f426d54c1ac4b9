"""The marks between which models write their reasoning before an answer."""

from __future__ import annotations

import re

_NAMES = "(?:think|thinking|thought|reason|reasoning)"
REASONING_START = re.compile(rf"(?:<\s*{_NAMES}\s*>|\[THINK\])\s*", re.IGNORECASE)
REASONING_END = re.compile(rf"(?:<\s*/\s*{_NAMES}\s*>|\[/THINK\])\s*", re.IGNORECASE)
"""Match a mark and the white space after it; some tokenizers decode a mark with spaces inside."""


def is_reasoning_mark(token: str) -> bool:
    """Whether a token begins or ends reasoning; in answers such a token is text unless it is special."""
    return bool(REASONING_START.fullmatch(token) or REASONING_END.fullmatch(token))


def brings_reasoning(answer: str) -> bool:
    """Whether an answer begins with reasoning, so that no template has to open it."""
    return REASONING_START.match(answer.lstrip()) is not None


def begun_reasoning(prompt: str) -> str:
    """Return the mark with which a prompt ends, so that the answer continues after it; empty if there is none."""
    *_, last = None, *REASONING_START.finditer(prompt)
    return last.group() if last and last.end() == len(prompt) else ""


def after_reasoning(text: str) -> str:
    """Return what follows the last closed block of reasoning, or the whole text if there is none."""
    return REASONING_END.split(text)[-1]
