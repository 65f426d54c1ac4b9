"""How far an answer agrees with its reference: three numbers in [0, 1], none of which depends on a model."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping

from rouge_score.rouge_scorer import RougeScorer

from contracts.options import Metric

ARTICLES = frozenset({"a", "an", "the"})
PUNCTUATION = str.maketrans("", "", string.punctuation)
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
"""One word; scripts that are written without spaces count by character."""


def normalize(text: str) -> str:
    """Fold case, Unicode compatibility forms and white space: what a person would call the same answer."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """The words of SQuAD's evaluation script: folded, without punctuation and English articles."""
    found: list[str] = WORD.findall(normalize(text).translate(PUNCTUATION))
    return [word for word in found if word not in ARTICLES]


def exact_match(predicted: str, expected: str) -> float:
    """1 where both are the same after `normalize`, else 0."""
    return float(normalize(predicted) == normalize(expected))


def token_f1(predicted: str, expected: str) -> float:
    """Harmonic mean of precision and recall over the bags of `words` (Rajpurkar et al. 2016)."""
    have, want = words(predicted), words(expected)
    if not have or not want:
        return exact_match(predicted, expected)
    common = (Counter(have) & Counter(want)).total()
    return 2 * common / (len(have) + len(want))


class _Words:
    """The tokenizer that rouge-score is given: its own keeps a-z and 0-9 only, and finds nothing in Chinese."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


_ROUGE = RougeScorer(["rougeL"], tokenizer=_Words())


def rouge_l(predicted: str, expected: str) -> float:
    """F-measure of the longest common subsequence of `words` (Lin 2004), by the rouge-score library."""
    if not words(predicted) or not words(expected):
        return token_f1(predicted, expected)
    return float(_ROUGE.score(expected, predicted)["rougeL"].fmeasure)


ANSWER_METRICS: Mapping[Metric, Callable[[str, str], float]] = {
    Metric.EXACT_MATCH: exact_match,
    Metric.TOKEN_F1: token_f1,
    Metric.ROUGE_L: rouge_l,
}
"""Every metric that compares an answer (first) with a reference (second)."""
