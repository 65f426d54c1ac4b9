"""Find probably wrong labels: a classifier that was trained without the row confidently predicts another label.

This simplifies confident learning (Northcutt et al. 2021, arXiv 1911.00068) for few rows: out-of-fold probabilities of
a linear classifier on character n-grams, and one rule for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.similarity.normalization import normal, words
from optimizer_worker.similarity.shared_text import prompt_words

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
MAX_CLASSES, MIN_ROWS, MIN_ROWS_PER_CLASS = 200, 40, 3
"""Labels are checked if there are at most this many classes, and at least this many rows and rows for each class."""
MAX_ROWS = 20_000
"""Labels of more rows are not checked, because fitting the classifier would take minutes."""
MIN_ACCURACY = 0.5
"""Share of the labels that the classifier must predict; otherwise words do not decide the label, and it judges none."""
MAX_OWN_PROBABILITY = 0.05
"""A label may be wrong only if the classifier gives it less than this."""
MIN_OTHER_PROBABILITY = 0.35
"""It is then wrong if another label has at least this probability,"""
MIN_SHARE_OF_MEAN = 0.75
"""and at least this share of the other label's mean probability on its own rows. Of 10 % planted wrong labels among 250
rows of 20 intents, with a clean dev split of 300, the rule finds three of four at a precision of 0.99 (four seeds)."""
MIN_RELEASE_PROBABILITY = 0.5
"""A quarantined row is released if the classifier predicts its label with at least this probability."""


class Classifier(Protocol):
    """A text classifier, such as `LinearClassifier` in `programs/text_models.py`; only programs load scikit-learn."""

    def out_of_fold(self, texts: Sequence[str], labels: Labels, judged: int, seed: int) -> Probabilities:
        """Probabilities (judged, classes) of the first `judged` texts, each from a model fitted without it."""
        ...

    def predict(self, texts: Sequence[str], labels: Labels, queries: Sequence[str]) -> Probabilities:
        """Probabilities (queries, classes) from a model fitted on `texts`."""
        ...


def can_be_checked(rows: Sequence[Row]) -> bool:
    """Whether there are enough rows of each label, and not too many rows, to fit a classifier."""
    classes = len({normal(row.response) for row in rows})
    return MIN_ROWS <= len(rows) <= MAX_ROWS and 2 <= classes <= min(MAX_CLASSES, len(rows) // MIN_ROWS_PER_CLASS)


def wrong_labels(rows: Sequence[Row], trusted: Sequence[Row], seed: int, classifier: Classifier) -> list[RuleDecision]:
    """Quarantine rows whose label is probably wrong; `trusted` rows (dev) train every fold and are not checked."""
    classes, labels = _classes((*rows, *trusted))
    predicted = classifier.out_of_fold(_texts((*rows, *trusted)), labels, len(rows), seed)
    own = predicted[np.arange(len(rows)), labels[: len(rows)]]
    best = predicted.argmax(axis=1)
    if (best == labels[: len(rows)]).mean() < MIN_ACCURACY:
        return []
    required = np.maximum(
        MIN_OTHER_PROBABILITY, MIN_SHARE_OF_MEAN * _self_confidence(own, labels[: len(rows)], len(classes))
    )[best]
    flagged = np.flatnonzero((predicted.max(axis=1) >= required) & (own < MAX_OWN_PROBABILITY)).tolist()
    return [_wrong_label(rows[i], classes[best[i]], predicted[i, best[i]], own[i]) for i in flagged]


def restored_labels(
    quarantined: Sequence[Row], rows: Sequence[Row], trusted: Sequence[Row], classifier: Classifier
) -> list[RuleDecision]:
    """Release quarantined rows whose label is predicted by a classifier trained on the current rows without them."""
    training = [*rows, *trusted]
    classes, labels = _classes(training)
    texts = _texts((*training, *quarantined))
    predicted = classifier.predict(texts[: len(training)], labels, texts[len(training) :])
    decisions = []
    for row, chance in zip(quarantined, predicted, strict=True):
        best = int(chance.argmax())
        if normal(classes[best]) == normal(row.response) and chance[best] >= MIN_RELEASE_PROBABILITY:
            decisions.append(
                RuleDecision(
                    row.id, Action.RELEASED, "label_restored", round(float(chance[best]), 4), MIN_RELEASE_PROBABILITY
                )
            )
    return decisions


def _classes(rows: Sequence[Row]) -> tuple[list[str], Labels]:
    """Return one spelling of each label, and the number of each row's label; spellings of one label are one class."""
    numbers: dict[str, int] = {}
    labels = [numbers.setdefault(normal(row.response), len(numbers)) for row in rows]
    spellings = dict(zip(reversed(labels), (row.response for row in reversed(rows)), strict=True))
    return [spellings[number] for number in range(len(numbers))], np.array(labels, dtype=np.int64)


def _texts(rows: Sequence[Row]) -> list[str]:
    """Return the prompts without the text that many rows share; the others as they are."""
    return [
        row.prompt if prompt == words(row.prompt) else " ".join(prompt)
        for row, prompt in zip(rows, prompt_words(rows), strict=True)
    ]


def _self_confidence(own: Probabilities, labels: NDArray[np.int64], classes: int) -> Probabilities:
    """Return, for each label, the mean probability that the classifier gives to it on its own rows."""
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.bincount(labels, own, minlength=classes) / np.maximum(counts, 1))


def _wrong_label(row: Row, other: str, chance: float, own: float) -> RuleDecision:
    reason = f"a classifier gives {other!r} {chance:.2f} and this label {own:.2f}"
    return RuleDecision(
        row.id, Action.QUARANTINED, "wrong_label", round(float(own), 4), MAX_OWN_PROBABILITY, reason=reason
    )
