"""Drop rows that contain a dev or test prompt: the same prompt, a near copy, or a long part of it.

A short prompt must match in more than its words, because questions of one domain share most words. A part of a long
prompt is enough, so for those the row's whole text is searched, including the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.similarity.normalization import Words, words
from optimizer_worker.similarity.partial_copies import Match, long_copies, shared_shingles, short_copies
from optimizer_worker.similarity.row_texts import compared_answer
from optimizer_worker.similarity.shared_text import prompt_words
from optimizer_worker.similarity.shingles import sizes, views


def contaminated(
    rows: Sequence[Row], protected: Mapping[str, Sequence[Row]], threshold: float, others: Sequence[Row] = ()
) -> list[RuleDecision]:
    """Drop the rows that match a row of a protected split; a decision names a dev row, but never a test row.

    `others` are more rows of the same kind, which show the text that many rows share.
    """
    owners = [(name, row) for name, split in protected.items() for row in split]
    if not rows or not owners:
        return []
    first: dict[int, Match] = {}
    prompts = prompt_words([*rows, *(row for _, row in owners), *others])
    for match in _matches(rows, prompts[: len(rows)], prompts[len(rows) : len(rows) + len(owners)], threshold):
        first.setdefault(match.row, match)
    return [_decision(rows[index], match, *owners[match.protected]) for index, match in sorted(first.items())]


def _matches(
    rows: Sequence[Row], prompts: Sequence[Words], protected: Sequence[Words], threshold: float
) -> Iterator[Match]:
    yield from _same(prompts, protected)
    yield from _near_copies(prompts, protected, threshold)
    yield from short_copies(prompts, protected)
    whole = [(*prompt, *words(compared_answer(row))) for prompt, row in zip(prompts, rows, strict=True)]
    yield from long_copies(whole, protected)


def _same(prompts: Sequence[Words], protected: Sequence[Words]) -> Iterator[Match]:
    index_of = {prompt: i for i, prompt in enumerate(protected)}
    for row, prompt in enumerate(prompts):
        if (match := index_of.get(prompt)) is not None:
            yield Match(row, match, "same prompt", 1.0, 1.0)


def _near_copies(prompts: Sequence[Words], protected: Sequence[Words], threshold: float) -> Iterator[Match]:
    """Find near copies by the exact Jaccard similarity of word or character shingles, without LSH."""
    for text_indices, matrix in views([*prompts, *protected]):
        boundary = int(np.searchsorted(text_indices, len(prompts)))
        row_shingles, protected_shingles = matrix[:boundary], matrix[boundary:]
        row_sizes, protected_sizes = sizes(row_shingles), sizes(protected_shingles)
        for row, other, shared in shared_shingles(row_shingles, protected_shingles):
            similarity = shared / (row_sizes[row] + protected_sizes[other] - shared)
            for i in np.flatnonzero(similarity >= threshold):
                index = int(text_indices[boundary + other[i]]) - len(prompts)
                yield Match(int(text_indices[row[i]]), index, "near copy", float(similarity[i]), threshold)


def _decision(row: Row, match: Match, split: str, protected: Row) -> RuleDecision:
    return RuleDecision(
        row.id,
        Action.DROPPED,
        "contaminated",
        round(match.value, 4),
        match.threshold,
        parent=protected.id if split == "dev" else None,
        reason=f"{match.rule} of a row of {split}",
    )
