"""Probable wrong labels: rows whose label a classifier that has not seen them contradicts with confidence.

In the manner of confident learning (Northcutt et al. 2021, arXiv 1911.00068), cut down to what few rows carry:
out-of-fold probabilities of a linear classifier on character n-grams, and one rule on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contracts.rows import Row
from optimizer_worker.ledger import Action, Verdict
from optimizer_worker.programs.text_models import Probabilities, character_vectors, out_of_fold, probabilities
from optimizer_worker.similarity.normalization import words

MOST_CLASSES, LABEL_WORDS, FEWEST_ROWS, ROWS_A_CLASS = 200, 8, 40, 3
"""Data looks like classification up to this many short answers, from this many rows, this many a class."""
MOST_ROWS = 20_000
"""Above this, labels are not checked: fitting the classifier would take minutes."""
SURE, USUAL, DOUBTED = 0.35, 0.75, 0.05
"""Another label must have SURE, and USUAL times what that label's own rows have in the mean; the row's own less
than DOUBTED. Of 10 % planted wrong labels among 250 rows of 20 intents, with a clean dev split of 300, this
finds three of four at a precision of 0.99 (four seeds)."""
RESTORED = 0.5
"""The probability from which the classifier's agreement brings a quarantined row back."""


def looks_like_classification(rows: Sequence[Row]) -> bool:
    """Whether the answers are a few short labels that come again and again."""
    if not FEWEST_ROWS <= len(rows) <= MOST_ROWS or any(row.text is not None for row in rows):
        return False
    labels = {row.response for row in rows}
    few = 2 <= len(labels) <= min(MOST_CLASSES, len(rows) // ROWS_A_CLASS)
    return few and all(len(words(label)) <= LABEL_WORDS for label in labels)


def wrong_labels(rows: Sequence[Row], trusted: Sequence[Row], seed: int) -> list[Verdict]:
    """Quarantine the rows of probably wrong label. `trusted` rows (dev) teach every fold and are not judged."""
    classes, labels = np.unique([row.response for row in (*rows, *trusted)], return_inverse=True)
    features = character_vectors([row.prompt for row in (*rows, *trusted)])
    chances = out_of_fold(features, labels, len(rows), len(classes), seed)
    own = chances[np.arange(len(rows)), labels[: len(rows)]]
    best = chances.argmax(axis=1)
    sure = np.maximum(SURE, USUAL * _self_confidence(own, labels[: len(rows)], len(classes)))[best]
    flagged = np.flatnonzero((chances.max(axis=1) >= sure) & (own < DOUBTED)).tolist()
    return [_wrong(rows[i], str(classes[best[i]]), chances[i, best[i]], own[i]) for i in flagged]


def restored_labels(quarantined: Sequence[Row], rows: Sequence[Row], trusted: Sequence[Row]) -> list[Verdict]:
    """Release rows whose label a classifier, which knows more by now and never saw them, does predict."""
    teachers = [*rows, *trusted]
    classes, labels = np.unique([row.response for row in teachers], return_inverse=True)
    features = character_vectors([row.prompt for row in (*teachers, *quarantined)])
    chances = probabilities(features[: len(teachers)], labels, features[len(teachers) :], len(classes))
    verdicts = []
    for row, chance in zip(quarantined, chances, strict=True):
        best = int(chance.argmax())
        if classes[best] == row.response and chance[best] >= RESTORED:
            verdicts.append(Verdict(row.id, Action.RELEASED, "label_restored", round(float(chance[best]), 4), RESTORED))
    return verdicts


def _self_confidence(own: Probabilities, labels: NDArray[np.int64], classes: int) -> Probabilities:
    """How sure the classifier is, in the mean, of the rows that bear each label."""
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.bincount(labels, own, minlength=classes) / np.maximum(counts, 1))


def _wrong(row: Row, other: str, chance: float, own: float) -> Verdict:
    reason = f"a classifier gives {other!r} {chance:.2f} and this label {own:.2f}"
    return Verdict(row.id, Action.QUARANTINED, "wrong_label", round(float(own), 4), DOUBTED, reason=reason)
