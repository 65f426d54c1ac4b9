"""What the optimizer takes from scikit-learn: TF-IDF vectors of texts, and a linear classifier on them."""

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

from optimizer_worker.similarity.normalization import words

FOLDS = 5
STEPS = 20
"""Fitting stops early: gross contradictions are looked for, and more steps find no more of them."""

Probabilities = NDArray[np.float64]


def word_vectors(*groups: Sequence[str]) -> list[csr_array]:
    """TF-IDF vectors of unit length for each group of texts, in one space."""
    vectorizer = TfidfVectorizer(
        tokenizer=words, token_pattern=None, lowercase=False, ngram_range=(1, 2), sublinear_tf=True
    )
    everything = csr_array(vectorizer.fit_transform([text for group in groups for text in group]))
    ends = np.cumsum([len(group) for group in groups])
    return [everything[end - len(group) : end] for group, end in zip(groups, ends, strict=True)]


def character_vectors(texts: Sequence[str]) -> csr_array:
    """TF-IDF vectors of runs of 3 and 4 characters within words, one row a text."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, dtype=np.float32)
    return csr_array(vectorizer.fit_transform(texts))


def out_of_fold(features: csr_array, labels: NDArray[np.int64], judged: int, classes: int, seed: int) -> Probabilities:
    """Probability of each class for each judged row, from a classifier that was fitted without the row."""
    chances = np.zeros((judged, classes))
    trusted, taught = features[judged:], labels[judged:]
    for seen, unseen in KFold(FOLDS, shuffle=True, random_state=seed).split(labels[:judged]):
        known = vstack([features[seen], trusted], format="csr")
        chances[unseen] = probabilities(known, np.concatenate([labels[seen], taught]), features[unseen], classes)
    return chances


def probabilities(known: csr_array, labels: NDArray[np.int64], asked: csr_array, classes: int) -> Probabilities:
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
