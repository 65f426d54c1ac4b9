"""TF-IDF vectors of texts, and a linear classifier on them, both from scikit-learn."""

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

from optimizer_worker.similarity.normalization import Words

FOLDS = 5
MAX_STEPS = 20
"""Maximum fitting steps; more steps find no more clearly wrong labels."""

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]


def word_vectors(*groups: Sequence[Words]) -> list[csr_array]:
    """Return TF-IDF vectors of unit length, over words and word pairs, for each group of texts in one common space."""
    vectorizer = TfidfVectorizer(
        tokenizer=list, token_pattern=None, lowercase=False, ngram_range=(1, 2), sublinear_tf=True
    )
    everything = csr_array(vectorizer.fit_transform([text for group in groups for text in group]))
    ends = np.cumsum([len(group) for group in groups])
    return [everything[end - len(group) : end] for group, end in zip(groups, ends, strict=True)]


class LinearClassifier:
    """A logistic regression on TF-IDF vectors of character 3-grams and 4-grams."""

    def out_of_fold(self, texts: Sequence[str], labels: Labels, judged: int, seed: int) -> Probabilities:
        """Return probabilities (judged, classes) from classifiers that were each fitted without the text they judge.

        The first `judged` texts are judged; the other texts are part of every training set.
        """
        features, classes = _character_vectors(texts), int(labels.max()) + 1
        predicted = np.zeros((judged, classes))
        trusted, trusted_labels = features[judged:], labels[judged:]
        for seen, unseen in KFold(FOLDS, shuffle=True, random_state=seed).split(labels[:judged]):
            known = vstack([features[seen], trusted], format="csr")
            known_labels = np.concatenate([labels[seen], trusted_labels])
            predicted[unseen] = _probabilities(known, known_labels, features[unseen], classes)
        return predicted

    def predict(self, texts: Sequence[str], labels: Labels, queries: Sequence[str]) -> Probabilities:
        """Return probabilities (queries, classes) from a classifier fitted on `texts`."""
        features = _character_vectors([*texts, *queries])
        return _probabilities(features[: len(texts)], labels, features[len(texts) :], int(labels.max()) + 1)


def _character_vectors(texts: Sequence[str]) -> csr_array:
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, dtype=np.float32)
    return csr_array(vectorizer.fit_transform(texts))


def _probabilities(known: csr_array, labels: Labels, queries: csr_array, classes: int) -> Probabilities:
    """Return probabilities (queries, classes); classes that are not in `labels` have 0."""
    predicted = np.zeros((queries.shape[0], classes))
    if np.unique(labels).size < 2:
        return predicted
    # On matrices this small, synchronising threads costs more time than the threads save.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=20.0, tol=1e-3, max_iter=MAX_STEPS).fit(known, labels)
    predicted[:, model.classes_] = model.predict_proba(queries)
    return predicted
