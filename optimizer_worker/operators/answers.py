"""Decide whether the answers are labels of few classes or free text; only labels can conflict or be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.notices import Notice, notice
from contracts.options import Answers
from contracts.rows import Row
from optimizer_worker.similarity.normalization import normal, words
from optimizer_worker.similarity.row_texts import compared_answer

MAX_SHARE_OF_LABELS, MAX_LABEL_WORDS = 0.2, 8
"""Answers are labels if at most this share of the rows has different answers, and none has more words."""


def kind_of_answers(rows: Sequence[Row], option: Answers) -> tuple[Answers, Notice]:
    """Return LABELS or TEXT, as the option says or by the rows, with a notice that shows the decision."""
    conversations = [row for row in rows if row.text is None]
    different = {normal(compared_answer(row)): compared_answer(row) for row in conversations}
    longest = max((len(words(answer)) for answer in different.values()), default=0)
    found = f"{len(different)} different answers in {len(conversations)} rows, the longest of {longest} words"
    if option is not Answers.AUTO:
        return option, notice("answers", 0, f"The answers are {option}, as set: {found}.")
    few = 0 < len(different) <= MAX_SHARE_OF_LABELS * len(conversations)
    kind = Answers.LABELS if few and longest <= MAX_LABEL_WORDS else Answers.TEXT
    other = Answers.TEXT if kind is Answers.LABELS else Answers.LABELS
    effect = "Conflicting and wrong labels are looked for." if kind is Answers.LABELS else "They cannot conflict."
    text = f"The answers look like {kind}: {found}. {effect} If they are {other}, set --answers {other}."
    return kind, notice("answers", 0, text)
