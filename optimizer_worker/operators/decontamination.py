"""Rows that give away a dev or test row: the same prompt, a near copy of it, or a long stretch of it.

Short prompts are held to more than shared words: questions of one domain share most of them. Long ones leak by
a part, so the row's whole text is searched, its answer too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein
from scipy.sparse import csr_array

from contracts.rows import Row
from optimizer_worker.ledger import Action, Verdict
from optimizer_worker.similarity.normalization import normal, words
from optimizer_worker.similarity.shingles import distinctive, runs, sizes, views

CHUNK = 4096
"""Rows compared with all protected ones at once."""
SHORT_PROMPT = 13
"""Words below which a prompt has no 13-gram, the measure used for long ones since GPT-3."""
SHARED_PAIRS, CONTAINED, SAME_LETTERS, ONE_WORD = 0.5, 0.8, 0.9, 8
"""A short prompt is given away by a row with half its pairs of words and 0.8 of its words, if 0.9 of the letters
(edit similarity) are the same too, or, from 8 words on, all words but one in their order. Less over-flags: "how do I
get a physical card" and "how do I get a virtual card" are two questions."""
LONG_RUN, COVERED_RUN, COVERED = 13, 8, 0.5
"""A long prompt is given away by any of its 13-grams that is not a template's, or by half its 8-grams."""


class Match(NamedTuple):
    """A row that gives a protected row away; `value` was measured and held against `threshold`."""

    row: int
    protected: int
    rule: str
    value: float
    threshold: float


def contaminated(rows: Sequence[Row], protected: Mapping[str, Sequence[Row]], threshold: float) -> list[Verdict]:
    """Drop the rows that match a row of a protected split. The verdict names a dev row, never one of test."""
    owners = [(name, row) for name, split in protected.items() for row in split]
    if not rows or not owners:
        return []
    first: dict[int, Match] = {}
    for match in _matches(rows, [row for _, row in owners], threshold):
        first.setdefault(match.row, match)
    return [_verdict(rows[place], match, *owners[match.protected]) for place, match in sorted(first.items())]


def _matches(rows: Sequence[Row], protected: Sequence[Row], threshold: float) -> Iterator[Match]:
    prompts = [row.prompt for row in rows]
    secrets = [row.prompt for row in protected]
    yield from _same(prompts, secrets)
    yield from _alike(prompts, secrets, threshold)
    yield from _short(prompts, secrets)
    yield from _long([f"{row.prompt}\n{row.response}" for row in rows], secrets)


def _same(prompts: Sequence[str], secrets: Sequence[str]) -> Iterator[Match]:
    place = {normal(secret): i for i, secret in enumerate(secrets)}
    for row, prompt in enumerate(prompts):
        if (found := place.get(normal(prompt))) is not None:
            yield Match(row, found, "same prompt", 1.0, 1.0)


def _alike(prompts: Sequence[str], secrets: Sequence[str], threshold: float) -> Iterator[Match]:
    """Near copies by the Jaccard similarity of shingles, of words or of characters; exact, no LSH."""
    for where, matrix in views([*prompts, *secrets]):
        border = int(np.searchsorted(where, len(prompts)))
        mine, theirs = matrix[:border], matrix[border:]
        have, needed = sizes(mine), sizes(theirs)
        for row, secret, shared in _shared(mine, theirs):
            similarity = shared / (have[row] + needed[secret] - shared)
            for i in np.flatnonzero(similarity >= threshold):
                place = int(where[border + secret[i]]) - len(prompts)
                yield Match(int(where[row[i]]), place, "near copy", float(similarity[i]), threshold)


def _short(prompts: Sequence[str], secrets: Sequence[str]) -> Iterator[Match]:
    places = [i for i, secret in enumerate(secrets) if 2 < len(words(secret)) < SHORT_PROMPT]
    if not places:
        return
    matrix = runs([words(text) for text in (*prompts, *(secrets[i] for i in places))], 2)
    mine, theirs = matrix[: len(prompts)], matrix[len(prompts) :]
    needed = sizes(theirs)
    for row, secret, shared in _shared(mine, theirs):
        for i in np.flatnonzero(shared >= SHARED_PAIRS * needed[secret]):
            place = places[secret[i]]
            if (letters := _same_letters(prompts[row[i]], secrets[place])) is not None:
                yield Match(int(row[i]), place, "short near copy", letters, SAME_LETTERS)


def _same_letters(text: str, secret: str) -> float | None:
    """The share of letters that a near copy of a short prompt has in common with it; None where it is none."""
    mine, needed = words(text), words(secret)
    if _figures(mine) != _figures(needed) or len(set(needed) & set(mine)) < CONTAINED * len(set(needed)):
        return None
    letters = fuzz.ratio(" ".join(mine), " ".join(needed)) / 100
    one_word = len(needed) >= ONE_WORD and Levenshtein.distance(mine, needed, score_cutoff=1) <= 1
    return letters if letters >= SAME_LETTERS or one_word else None


def _figures(tokens: Sequence[str]) -> list[str]:
    """Numbers and operators: a sum with another one is another sum."""
    return [token for token in tokens if not token.isalpha()]


def _long(texts: Sequence[str], secrets: Sequence[str]) -> Iterator[Match]:
    places = [i for i, secret in enumerate(secrets) if len(words(secret)) >= SHORT_PROMPT]
    if not places:
        return
    tokens = [words(text) for text in (*texts, *(secrets[i] for i in places))]
    for length, share in ((LONG_RUN, 0.0), (COVERED_RUN, COVERED)):
        matrix = distinctive(runs(tokens, length))
        mine, theirs = matrix[: len(texts)], matrix[len(texts) :]
        needed = sizes(theirs)
        for row, secret, shared in _shared(mine, theirs):
            covered = shared / needed[secret]
            for i in np.flatnonzero(covered >= share):
                yield Match(int(row[i]), places[secret[i]], f"{length}-grams", float(covered[i]), share)


def _shared(
    mine: csr_array, theirs: csr_array
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and protected rows that share shingles, and how many, chunk by chunk."""
    across = theirs.T.tocsr()
    for start in range(0, mine.shape[0], CHUNK):
        product = (mine[start : start + CHUNK] @ across).tocoo()
        yield product.row + start, product.col, product.data


def _verdict(row: Row, match: Match, split: str, secret: Row) -> Verdict:
    return Verdict(
        row.id,
        Action.DROPPED,
        "contaminated",
        round(match.value, 4),
        match.threshold,
        parent=secret.id if split == "dev" else None,
        reason=f"{match.rule} of a row of {split}",
    )
