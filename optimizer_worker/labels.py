"""Probable wrong labels: rows whose label a classifier that has not seen them contradicts with confidence.

In the manner of confident learning (Northcutt et al. 2021, arXiv 1911.00068), cut down to what few rows carry:
out-of-fold probabilities of a linear classifier on character n-grams, and one rule on them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from contracts.rows import Row
from optimizer_worker.ledger import Action, Verdict
from optimizer_worker.normalization import words

MOST_CLASSES, LABEL_WORDS, FEWEST_ROWS, ROWS_A_CLASS = 200, 8, 40, 3
"""Data looks like classification up to this many short answers, from this many rows, this many a class."""
MOST_ROWS = 20_000
"""Above this, labels are not checked: fitting the classifier would take minutes."""
FOLDS = 5
SURE, USUAL, DOUBTED = 0.35, 0.75, 0.05
"""Another label must have SURE, and USUAL times what that label's own rows have in the mean; the row's own less
than DOUBTED. Of 10 % planted wrong labels among 250 rows of 20 intents, with a clean dev split of 300, this
finds three of four at a precision of 0.99 (four seeds)."""
STEPS = 20
"""Fitting stops early: gross contradictions are looked for, and more steps find no more of them."""
RESTORED = 0.5
"""The probability from which the classifier's agreement brings a quarantined row back."""

Probabilities = NDArray[np.float64]


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
    features = _features([*rows, *trusted])
    out_of_fold = _out_of_fold(features, labels, len(rows), len(classes), seed)
    own = out_of_fold[np.arange(len(rows)), labels[: len(rows)]]
    best = out_of_fold.argmax(axis=1)
    sure = np.maximum(SURE, USUAL * _self_confidence(own, labels[: len(rows)], len(classes)))[best]
    flagged = np.flatnonzero((out_of_fold.max(axis=1) >= sure) & (own < DOUBTED)).tolist()
    return [_wrong(rows[i], str(classes[best[i]]), out_of_fold[i, best[i]], own[i]) for i in flagged]


def restored_labels(quarantined: Sequence[Row], rows: Sequence[Row], trusted: Sequence[Row]) -> list[Verdict]:
    """Release rows whose label a classifier, which knows more by now and never saw them, does predict."""
    teachers = [*rows, *trusted]
    classes, labels = np.unique([row.response for row in teachers], return_inverse=True)
    features = _features([*teachers, *quarantined])
    chances = _predict(features[: len(teachers)], labels, features[len(teachers) :], len(classes))
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


def _features(rows: Sequence[Row]) -> csr_array:
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, dtype=np.float32)
    return csr_array(vectorizer.fit_transform([row.prompt for row in rows]))


def _out_of_fold(features: csr_array, labels: NDArray[np.int64], judged: int, classes: int, seed: int) -> Probabilities:
    """Probability of each class for each judged row, from a classifier that was fitted without the row."""
    chances = np.zeros((judged, classes))
    trusted, taught = features[judged:], labels[judged:]
    for seen, unseen in KFold(FOLDS, shuffle=True, random_state=seed).split(labels[:judged]):
        known = vstack([features[seen], trusted], format="csr")
        chances[unseen] = _predict(known, np.concatenate([labels[seen], taught]), features[unseen], classes)
    return chances


def _predict(known: csr_array, labels: NDArray[np.int64], asked: csr_array, classes: int) -> Probabilities:
    """Probabilities of all classes; those that do not stand in `labels` have none."""
    chances = np.zeros((asked.shape[0], classes))
    if np.unique(labels).size < 2:
        return chances
    # On matrices this small, threads that wait for one another cost more than they bring: 7 s instead of 1.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=20.0, tol=1e-3, max_iter=STEPS).fit(known, labels)
    chances[:, model.classes_] = model.predict_proba(asked)
    return chances


def _wrong(row: Row, other: str, chance: float, own: float) -> Verdict:
    reason = f"a classifier gives {other!r} {chance:.2f} and this label {own:.2f}"
    return Verdict(row.id, Action.QUARANTINED, "wrong_label", round(float(own), 4), DOUBTED, reason=reason)
