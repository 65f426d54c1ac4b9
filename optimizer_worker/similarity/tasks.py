"""Tell several wordings of one task from several tasks for the same inputs.

Both give the same input different shared text. Wordings agree in their answers; tasks share many inputs and disagree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from optimizer_worker.similarity.normalization import Words
from optimizer_worker.similarity.slots import name_of

MAX_COMMON, MAX_DISAGREEING = 0.05, 0.1
"""Two shared texts are those of different tasks if they have more than this share of their inputs in common, and more
than this share of those have different answers."""
MAX_NAMES = 50
"""Shared texts of one input that are compared with each other, to avoid n² pairs."""


class Shared(NamedTuple):
    """The names of the shared text of one text: of its long runs, and of its short ones."""

    long: str
    short: str


def with_tasks(
    texts: Sequence[Words], shortened: Sequence[Words], rest: Sequence[Words], answers: Sequence[str]
) -> list[Words]:
    """Return `rest` with one word for the shared text of each text if it is that of a task.

    `shortened` are the texts without long shared runs, `rest` those without any. Long runs are compared if the short
    ones are the same, because a short one may be part of the input.
    """
    stages = zip(texts, shortened, rest, strict=True)
    names = [Shared(_name(text, short), _name(short, words_left)) for text, short, words_left in stages]
    given: dict[Words, dict[Shared, set[str]]] = defaultdict(lambda: defaultdict(set))
    for words_left, name, answer in zip(rest, names, answers, strict=True):
        given[words_left][name].add(answer)
    tasks = _tasks(list(given.values()))
    return [
        (*(part for part in name if part in tasks), *words_left) for name, words_left in zip(names, rest, strict=True)
    ]


def _name(text: Words, rest: Words) -> str:
    """Return one private character that stands for the removed words; empty if none was removed."""
    removed = Counter(text) - Counter(rest) if len(text) != len(rest) else Counter[str]()
    return name_of(tuple(sorted(removed.elements()))) if removed else ""


def _tasks(inputs: Sequence[dict[Shared, set[str]]]) -> set[str]:
    """Return the names of shared texts that are those of different tasks; `inputs` have the answers under each name."""
    size = Counter(part for answers in inputs for name in answers for part in name)
    common: Counter[tuple[str, str]] = Counter()
    disagreeing: Counter[tuple[str, str]] = Counter()
    for answers in inputs:
        for one, other in combinations(sorted(answers)[:MAX_NAMES], 2):
            pair = (one.long, other.long) if one.short == other.short else (one.short, other.short)
            common[pair] += 1
            disagreeing[pair] += answers[one] != answers[other]
    return {
        name
        for pair, count in common.items()
        if count > MAX_COMMON * min(size[pair[0]], size[pair[1]]) and disagreeing[pair] > MAX_DISAGREEING * count
        for name in pair
        if name
    }
