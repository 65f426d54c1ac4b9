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
_BETWEEN_DIGITS = r"(?<!\d)[,:/]|[,:/](?!\d)|(?<=\d),(?=\d{3}(?!\d))"
_BEFORE_DIGITS = r"\.(?!\d)|(?<=[^\W\d])\.|(?<=\.)\.|-(?!\.?\d)|(?<=[^\W\d])-"
_BEFORE_WORDS = r"[!?](?![\w=])|(?<=\w)[!?](?!=)"
PUNCTUATION = re.compile(rf"[\"'()*;\[\]_`{{}}]|{_BETWEEN_DIGITS}|{_BEFORE_DIGITS}|{_BEFORE_WORDS}")
"""Marks of sentences, lists and emphasis, which do not count; others do, as in C#, &&, 1.5, -5 and !x."""
MAX_LABEL_WORDS = 8
"""A text with more words, or with other marks than those of names, is no label, so that all its marks count."""
_NO_LABEL = re.compile(r"[^\w\s\-\u0300-\u036f]")
_FULL_STOP = re.compile("(?<=[^\\s.])[.\u3002]$")
_BETWEEN_WORDS = re.compile(r"(?<=[^\W_])_+(?=[^\W_])|(?<=[^\W\d_]{2})-(?=[^\W\d_])|(?<=[^\W\d_])-(?=[^\W\d_]{2})")
INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
"""Characters without width that no script needs; labels copied from web pages have them."""


def normalize(text: str) -> str:
    """Normalize letter case, Unicode compatibility forms and white space, so that equal answers compare equal."""
    return " ".join(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).casefold().split())


def label_key(text: str) -> str:
    """Return the text after `normalize`; a short label also without a final full stop and with spaces for `_` and `-`.

    Hyphens between digits or single letters stay, because they may be minus signs.
    """
    normalized = normalize(text)
    key = _FULL_STOP.sub("", normalized)
    if not _NO_LABEL.search(key):
        key = _BETWEEN_WORDS.sub(" ", key)
    return key if len(key.split()) <= MAX_LABEL_WORDS else normalized


def words(text: str) -> list[str]:
    """Return the words as SQuAD's evaluation script does: normalized, without punctuation and English articles.

    Unlike there, combining marks belong to their word, and symbols and emoji are words too.
    """
    text = normalize(text).replace("\u2212", "-")
    return [word for word in split_words(PUNCTUATION.sub("", text)) if word not in ARTICLES]


def exact_match(predicted: str, expected: str) -> float:
    """Return 1 if both texts have the same `label_key`, else 0."""
    return float(label_key(predicted) == label_key(expected))


def token_f1(predicted: str, expected: str) -> float:
    """Return the harmonic mean of precision and recall over the bags of `words` (Rajpurkar et al. 2016)."""
    predicted_words, expected_words = words(predicted), words(expected)
    same = exact_match(predicted, expected)
    if same or not predicted_words or not expected_words:
        return same
    common = (Counter(predicted_words) & Counter(expected_words)).total()
    return 2 * common / (len(predicted_words) + len(expected_words))


class _WordTokenizer:
    """The tokenizer for rouge-score, whose own keeps only a-z and 0-9 and so finds no word in Chinese text."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


_ROUGE = RougeScorer(["rougeL"], tokenizer=_WordTokenizer())


def rouge_l(predicted: str, expected: str) -> float:
    """Return the F-measure of the longest common subsequence of `words` (Lin 2004), from the rouge-score library."""
    same = exact_match(predicted, expected)
    if same or not words(predicted) or not words(expected):
        return same
    return float(_ROUGE.score(expected, predicted)["rougeL"].fmeasure)


ANSWER_METRICS: Mapping[Metric, Callable[[str, str], float]] = {
    Metric.EXACT_MATCH: exact_match,
    Metric.TOKEN_F1: token_f1,
    Metric.ROUGE_L: rouge_l,
}
"""Every metric that compares a predicted answer (first argument) with the reference (second)."""
