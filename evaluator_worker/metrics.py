"""Compare an answer with its reference: three metrics in [0, 1] that do not depend on a model."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping

from rouge_score.rouge_scorer import RougeScorer

from contracts.options import Metric
from evaluator_worker.words import split_words

ARTICLES = frozenset({"a", "an", "the"})
PUNCTUATION = str.maketrans("", "", "!\"'()*,-./:;?[]_`{}")
"""Marks of sentences, lists and emphasis, which do not count; other symbols do, for example in C# or &&."""


INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
"""Characters without width that no script needs; labels copied from web pages have them."""


def normalize(text: str) -> str:
    """Normalize letter case, Unicode compatibility forms and white space, so that equal answers compare equal."""
    return " ".join(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).casefold().split())


def words(text: str) -> list[str]:
    """Return the words as SQuAD's evaluation script does: normalized, without punctuation and English articles.

    Unlike there, combining marks belong to their word, and symbols and emoji are words too.
    """
    return [word for word in split_words(normalize(text).translate(PUNCTUATION)) if word not in ARTICLES]


def exact_match(predicted: str, expected: str) -> float:
    """Return 1 if both texts are equal after `normalize`, else 0."""
    return float(normalize(predicted) == normalize(expected))


def token_f1(predicted: str, expected: str) -> float:
    """Return the harmonic mean of precision and recall over the bags of `words` (Rajpurkar et al. 2016)."""
    predicted_words, expected_words = words(predicted), words(expected)
    if not predicted_words or not expected_words:
        return exact_match(predicted, expected)
    common = (Counter(predicted_words) & Counter(expected_words)).total()
    return 2 * common / (len(predicted_words) + len(expected_words))


class _WordTokenizer:
    """The tokenizer for rouge-score, whose own keeps only a-z and 0-9 and so finds no word in Chinese text."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


_ROUGE = RougeScorer(["rougeL"], tokenizer=_WordTokenizer())


def rouge_l(predicted: str, expected: str) -> float:
    """Return the F-measure of the longest common subsequence of `words` (Lin 2004), from the rouge-score library."""
    if not words(predicted) or not words(expected):
        return token_f1(predicted, expected)
    return float(_ROUGE.score(expected, predicted)["rougeL"].fmeasure)


ANSWER_METRICS: Mapping[Metric, Callable[[str, str], float]] = {
    Metric.EXACT_MATCH: exact_match,
    Metric.TOKEN_F1: token_f1,
    Metric.ROUGE_L: rouge_l,
}
"""Every metric that compares a predicted answer (first argument) with the reference (second)."""
