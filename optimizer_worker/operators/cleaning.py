"""Quarantine rows that are useless for training, and, if a person asks for it, tidy the text of rows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision

# Control characters, soft hyphens, zero-width spaces, byte-order marks; not joiners, which scripts and emoji need.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2060\ufeff]")
_SPACES = re.compile("[ \t\u00a0\u2000-\u200a\u202f\u205f\u3000]{2,}|[\t\u00a0\u2000-\u200a\u202f\u205f]")
_LINE_END = re.compile(r"[ \t]+(?=\n)")
_UNUSUAL = re.compile(r"[^\n -~]")


def tidy(text: str) -> str:
    """Return `text` in composed Unicode, without invisible characters and surplus white space.

    Text of several lines keeps the spacing inside its lines, because it may be code.
    """
    if _is_tidy(text):
        return text
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _INVISIBLE.sub("", text)
    one_line = "\n" not in text.strip()
    return (_SPACES.sub(" ", text) if one_line else _LINE_END.sub("", text)).strip()


def _is_tidy(text: str) -> bool:
    """Whether `text` needs no change; a fast check, because most text needs none."""
    spaced = "  " in text and "\n" not in text
    return not (spaced or " \n" in text or _UNUSUAL.search(text)) and text == text.strip()


def tidied(rows: Sequence[Row]) -> tuple[list[Row], list[RuleDecision]]:
    """Return the rows with tidy text, and a decision for each row that was rewritten."""
    result = [_tidied(row) for row in rows]
    decisions = [
        RuleDecision(new.id, Action.REWRITTEN, "tidied")
        for new, row in zip(result, rows, strict=True)
        if new is not row
    ]
    return result, decisions


def clean(rows: Sequence[Row]) -> list[RuleDecision]:
    """Return the decisions to quarantine rows that teach nothing; no row is changed."""
    return [
        RuleDecision(row.id, Action.QUARANTINED, problem, reason=_REASONS[problem])
        for row in rows
        if (problem := _problem(row))
    ]


_REASONS = {
    "empty_prompt": "a user turn, or the text, is empty",
    "empty_answer": "an assistant turn is empty",
    "answer_repeats_prompt": "the answer is equal to the prompt",
}


def _tidied(row: Row) -> Row:
    if row.text is not None:
        text = tidy(row.text)
        return row if text == row.text else row.model_copy(update={"text": text})
    contents = [tidy(turn.content) for turn in row.turns]
    if all(new == turn.content for new, turn in zip(contents, row.turns, strict=True)):
        return row
    turns = tuple(turn.model_copy(update={"content": new}) for turn, new in zip(row.turns, contents, strict=True))
    return row.model_copy(update={"turns": turns, "slice": tidy(row.slice) or "all"})


def _problem(row: Row) -> str | None:
    if row.text is not None:
        return None if _visible(row.text) else "empty_prompt"
    empty = {turn.role for turn in row.turns if not (_visible(turn.content) or turn.tool_calls)}
    if "user" in empty:
        return "empty_prompt"
    if "assistant" in empty:
        return "empty_answer"
    return "answer_repeats_prompt" if row.prompt.strip() == row.response.strip() else None


def _visible(text: str) -> bool:
    """Whether `text` has a character that shows."""
    return any(not sign.isspace() and unicodedata.category(sign) not in ("Cc", "Cf") for sign in text)
