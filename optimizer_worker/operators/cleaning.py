"""Tidy each row's text, and take out the rows that can teach nothing."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from contracts.rows import Row, Turn
from optimizer_worker.ledger import Action, Verdict

# Control characters, soft hyphens, zero-width spaces, byte-order marks. Joiners stay: scripts and emoji need them.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff]")
_SPACES = re.compile("[ \t\u00a0\u2000-\u200a\u202f\u205f\u3000]{2,}|[\t\u00a0\u2000-\u200a\u202f\u205f]")
_LINE_END = re.compile(r"[ \t]+(?=\n)")
_UNUSUAL = re.compile(r"[^\n -~]")


def tidy(text: str) -> str:
    """`text` in composed Unicode without invisible characters; in text of one line, runs of spaces become one.

    The lines of longer text keep their inner spacing: it may be code.
    """
    if _is_tidy(text):
        return text
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _INVISIBLE.sub("", text)
    one_line = "\n" not in text.strip()
    return (_SPACES.sub(" ", text) if one_line else _LINE_END.sub("", text)).strip()


def _is_tidy(text: str) -> bool:
    """Whether nothing is to be done, said fast: most text is plain."""
    spaced = "  " in text and "\n" not in text
    return not (spaced or " \n" in text or _UNUSUAL.search(text)) and text == text.strip()


def clean(rows: Sequence[Row]) -> tuple[list[Row], list[Verdict]]:
    """The rows with tidy text, and what was found: rows rewritten, and rows to be quarantined."""
    tidied, verdicts = [], []
    for row in rows:
        better = _tidied(row)
        tidied.append(better)
        if problem := _problem(better):
            verdicts.append(Verdict(row.id, Action.QUARANTINED, problem, reason=_REASONS[problem]))
        elif better is not row:
            verdicts.append(Verdict(row.id, Action.REWRITTEN, "tidied"))
    return tidied, verdicts


_REASONS = {
    "empty_prompt": "a turn of the user, or the text, is empty",
    "empty_answer": "a turn of the assistant is empty",
    "answer_repeats_prompt": "the answer is the prompt",
}


def _tidied(row: Row) -> Row:
    if row.text is not None:
        text = tidy(row.text)
        return row if text == row.text else row.model_copy(update={"text": text})
    contents = [tidy(turn.content) for turn in row.turns]
    if all(new == turn.content for new, turn in zip(contents, row.turns, strict=True)):
        return row
    turns = tuple(Turn(role=turn.role, content=new) for turn, new in zip(row.turns, contents, strict=True))
    return row.model_copy(update={"turns": turns, "slice": tidy(row.slice) or "all"})


def _problem(row: Row) -> str | None:
    if row.text is not None:
        return None if row.text else "empty_prompt"
    empty = {turn.role for turn in row.turns if not turn.content}
    if "user" in empty:
        return "empty_prompt"
    if "assistant" in empty:
        return "empty_answer"
    return "answer_repeats_prompt" if row.prompt == row.response else None
