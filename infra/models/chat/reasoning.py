"""The marks between which models write their reasoning before an answer."""

from __future__ import annotations

import re

_IN_PROMPTS = "(?:think|thinking|thought|reason|reasoning)"
IN_ANSWERS = frozenset({"think", "thinking", "[think]"})
"""Names of marks that an answer may use by itself; others are text, unless its prompt ends with such a mark."""
REASONING_START = re.compile(rf"(?:<\s*(?P<angle>{_IN_PROMPTS})\s*>|(?P<square>\[THINK\]))\s*", re.IGNORECASE)
REASONING_END = re.compile(rf"(?:<\s*/\s*(?P<angle>{_IN_PROMPTS})\s*>|(?P<square>\[/THINK\]))\s*", re.IGNORECASE)
"""Match a mark and the white space after it; some tokenizers decode a mark with spaces inside."""


def is_reasoning_mark(token: str) -> bool:
    """Whether a token begins or ends reasoning; in answers such a token is text unless it is special."""
    return bool(REASONING_START.fullmatch(token) or REASONING_END.fullmatch(token))


def brought_mark(answer: str) -> str:
    """Return the name of the mark that an answer begins with, or only closes at an edge of a line; empty if none."""
    if start := REASONING_START.match(answer.lstrip()):
        return _name(start)
    end = REASONING_END.search(answer)
    if end is None or REASONING_START.search(answer, 0, end.start()):
        return ""
    before, after = answer[: end.start()].rstrip(" \t"), end.group()
    return _name(end) if not before or before.endswith("\n") or "\n" in after else ""


def brings_reasoning(answer: str, prompt: str = "") -> bool:
    """Whether an answer begins with reasoning, or continues that of its prompt, so that it needs no empty block."""
    brought, begun = brought_mark(answer), begun_reasoning(prompt)
    return brought == _begun_name(begun) if begun else brought in IN_ANSWERS


def begun_reasoning(prompt: str) -> str:
    """Return the mark with which a prompt ends, so that the answer continues after it; empty if there is none."""
    *_, last = None, *REASONING_START.finditer(prompt)
    return last.group() if last and last.end() == len(prompt) else ""


def continuation(answer: str, begun: str) -> str:
    """Return what follows a prompt that ends in the mark `begun`: the answer without its own such mark."""
    start = REASONING_START.match(answer.lstrip())
    if not begun or start is None or _name(start) != _begun_name(begun):
        return answer
    rest = answer.lstrip()[len(start.group().rstrip()) :]
    blank = begun[len(begun.rstrip()) :]
    return rest.removeprefix(blank) if rest.startswith(blank) else rest.lstrip()


def after_reasoning(text: str, begun: str = "") -> str:
    """Return what follows the block of reasoning that opens a text, or that a prompt which ends in `begun` opened.

    Return the whole text if there is no such block or nothing follows it.
    """
    if begun:
        name = _begun_name(begun)
    else:
        start = REASONING_START.match(text.lstrip())
        name = _name(start) if start else ""
        if name not in IN_ANSWERS:
            return text
    ends = (end.end() for end in REASONING_END.finditer(text) if _name(end) == name)
    rest = text[next(ends, len(text)) :]
    return after_reasoning(rest) if rest.strip() else text


def _name(mark: re.Match[str]) -> str:
    return (mark["angle"] or mark["square"]).lower().replace("/", "")


def _begun_name(begun: str) -> str:
    start = REASONING_START.match(begun)
    return _name(start) if start else ""
