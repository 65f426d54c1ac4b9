"""Find the text that many rows share, such as a system prompt, an instruction, a passage or a template.

Shared text must not make rows similar, and near copies of one row are not shared text. Both repeat a run of words in
many rows. After the run, rows with shared text continue in many ways, but most copies continue in the same way. So a
run is shared text if many rows contain it and what follows it, or what precedes it, differs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.rows import Row
from optimizer_worker.similarity.normalization import Words, normal, words
from optimizer_worker.similarity.row_texts import compared_answer, compared_prompt
from optimizer_worker.similarity.shingles import Indices, run_keys, run_starts, token_numbers
from optimizer_worker.similarity.slots import name_of, without_frames
from optimizer_worker.similarity.tasks import with_tasks

Flags = NDArray[np.bool_]


class Rule(NamedTuple):
    """When a run of words is shared text."""

    length: int
    """Words of the run."""
    texts: int
    """Minimum number of different texts that contain it."""
    continuations: int
    """Minimum number of different words that follow, or precede, it."""


LONG = Rule(length=15, texts=5, continuations=3)
SHORT = Rule(length=5, texts=20, continuations=8)
"""Ordinary language does not repeat 15 words, so a few rows are enough; it repeats 5 words, but not as often."""
ROUNDS = 3
"""Most passes for long runs; each finds the runs that the removed ones had interrupted."""
MIN_ROW_SHARE, MIN_TEXTS = 0.2, 3
"""Share of a small dataset's texts that is enough for a run, and the least number of texts."""
MAX_SHARE_OF_ONE = 0.5
"""Maximum share of the rows that continue a run with the same word; more are copies, each with few edits."""
MAX_SHARE_ALONE = 0.05
"""Maximum share of the rows that continue with nothing; if more do, the other rows are copies with something added."""
MIN_COUNTED = 0.5
"""Minimum share of a run's texts whose continuations are counted."""
MIN_REST = 3
"""Minimum words that distinguish a text without its shared runs; fewer may fill the gap of different templates."""


def prompt_words(rows: Sequence[Row]) -> list[Words]:
    """Return the distinguishing words of each row's prompt, its earlier tool calls and its tools included."""
    texts = [words(compared_prompt(row)) for row in rows]
    shortened, rest = _distinguishing(tuple(texts))
    return with_tasks(texts, shortened, rest, [normal(compared_answer(row)) for row in rows])


def distinguishing(texts: Sequence[Words]) -> list[Words]:
    """Return each text without the words that many different texts share.

    A text of which fewer than MIN_REST words would remain keeps one word for each removed run, so that it still differs
    from texts with other runs; a text of which nothing would remain keeps its rarest run.
    """
    return list(_distinguishing(tuple(texts))[1])


@lru_cache(maxsize=2)
def _distinguishing(texts: tuple[Words, ...]) -> tuple[list[Words], list[Words]]:
    """Return the texts without long shared runs, and without any shared text."""
    few = max(MIN_TEXTS, int(MIN_ROW_SHARE * len(texts)))
    long = LONG._replace(texts=min(LONG.texts, few))
    rest, before = list(texts), list[Words]()
    for _ in range(ROUNDS):
        if rest == before:
            break
        rest, before = _without_runs(rest, long), rest
    short = SHORT._replace(texts=min(SHORT.texts, max(LONG.texts, few)))
    return rest, without_frames(_without_runs(rest, short))


def _without_runs(texts: Sequence[Words], rule: Rule) -> list[Words]:
    rows = Counter(text for text in texts if len(text) >= rule.length)
    if len(rows) < rule.texts:
        return list(texts)
    rest = dict(zip(rows, _remaining(rows, rule), strict=True))
    return [rest.get(text, text) for text in texts]


def _remaining(rows: Counter[Words], rule: Rule) -> Iterator[Words]:
    texts = list(rows)
    windows = _Windows.of(texts, rule, np.array(list(rows.values())))
    if not windows.key.size:
        yield from texts
        return
    after, before = _open_ends(windows, rule)
    cuts = np.zeros(sum(map(len, texts)) + 1, dtype=bool)
    cuts[windows.start[after[windows.key]] + rule.length] = True
    cuts[windows.start[before[windows.key]]] = True
    shared = _shared_keys(windows, rule, after, before, cuts)[windows.key]
    covered = np.zeros(cuts.size, dtype=np.int64)
    np.add.at(covered, windows.start[shared], 1)
    np.add.at(covered, windows.start[shared] + rule.length, -1)
    in_shared = np.cumsum(covered) > 0
    rows_at = np.full(cuts.size, np.iinfo(np.int64).max)
    rows_at[windows.start] = windows.texts[windows.key]
    begin = 0
    for text in texts:
        part = slice(begin, begin + len(text))
        yield _rest(text, in_shared[part], cuts[part], rows_at[part]) if in_shared[part].any() else text
        begin += len(text)


@dataclass(frozen=True, slots=True)
class _Windows:
    """The frequent runs of `length` words of the texts; the arrays have shape (windows,), except `texts`."""

    length: int
    start: Indices
    """Index of the first word among the words of all texts."""
    key: Indices
    """Number of the distinct run."""
    before: Indices
    """Number of the word that precedes the window in its text, or -1."""
    after: Indices
    is_first: Flags
    """Whether the window begins its text."""
    once: Indices
    """The windows without repetitions within one text."""
    weight: Indices
    """Number of rows with the window's text."""
    texts: Indices
    """Number of different texts that contain each distinct run, of shape (distinct runs,)."""

    @classmethod
    def of(cls, texts: Sequence[Words], rule: Rule, rows: Indices) -> _Windows:
        """Return the windows of different texts, `rows` of which have each; only those of runs that occur often."""
        length = rule.length
        numbers = token_numbers(texts)
        counts = np.array([len(text) - length + 1 for text in texts], dtype=np.int64)
        start = run_starts(texts, counts)
        keys = run_keys(numbers, length)[start]
        often = _often(keys, rule.texts)
        text = np.repeat(np.arange(len(texts)), counts)
        is_first = np.concatenate([[True], text[1:] != text[:-1]])
        is_last = np.concatenate([is_first[1:], [True]])[often]
        start, text, is_first = start[often], text[often], is_first[often]
        _, key = np.unique(keys[often], return_inverse=True)
        padded = np.concatenate([[-1], numbers.astype(np.int64), [-1]])
        before = np.where(is_first, -1, padded[start])
        after = np.where(is_last, -1, padded[start + length + 1])
        once = np.unique(key * len(texts) + text, return_index=True)[1]
        return cls(length, start, key, before, after, is_first, once, rows[text], np.bincount(key[once]))


def _often(keys: NDArray[np.uint64], least: int) -> Flags:
    """Return for each key whether it occurs at least so often."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    counts = np.diff(np.concatenate([begins, [keys.size]]))
    often = np.empty(keys.size, dtype=bool)
    often[order] = np.repeat(counts >= least, counts)
    return often


def _open_ends(windows: _Windows, rule: Rule) -> tuple[Flags, Flags]:
    """Return for each distinct run whether different words follow it, and whether different words precede it.

    If a run with different words after it ends just before a run with different words before it, then the more frequent
    of the two is shared text: the word beside the other one only shows which shared text it has.
    """
    every = np.ones(windows.key.size, dtype=bool)
    after, before = (_differ(windows, rule, neighbours, every) for neighbours in (windows.after, windows.before))
    window_at = np.full(int(windows.start[-1]) + rule.length + 1, -1)
    window_at[windows.start + rule.length] = np.arange(windows.key.size)
    preceding = np.where(windows.is_first, -1, window_at[windows.start])
    both = (preceding >= 0) & before[windows.key] & after[windows.key[preceding]]
    is_rarer = both & (windows.texts[windows.key[preceding]] >= windows.texts[windows.key])
    precedes_frequent = np.zeros(windows.key.size, dtype=bool)
    precedes_frequent[preceding[both & ~is_rarer]] = True
    return (
        _differ(windows, rule, windows.after, ~precedes_frequent),
        _differ(windows, rule, windows.before, ~is_rarer),
    )


def _differ(windows: _Windows, rule: Rule, neighbours: Indices, counted: Flags) -> Flags:
    """Return for each distinct run whether its neighbours differ, seen from its counted windows."""
    once = windows.once[counted[windows.once]]
    width = int(neighbours.max()) + 2
    pair, index = np.unique(windows.key[once] * width + neighbours[once] + 1, return_inverse=True)
    key, size = pair // width, windows.texts.size
    rows, counted_texts = np.bincount(index, windows.weight[once]), np.bincount(windows.key[once], minlength=size)
    total, distinct = np.bincount(key, rows, minlength=size), np.bincount(key, minlength=size)
    top = np.zeros(size)
    np.maximum.at(top, key, rows)
    enough = (windows.texts >= rule.texts) & (counted_texts >= MIN_COUNTED * windows.texts)
    enough &= distinct >= rule.continuations
    alone = np.bincount(windows.key[once], (neighbours[once] < 0) * windows.weight[once], minlength=size)
    return np.asarray(enough & (top < MAX_SHARE_OF_ONE * total) & (alone < MAX_SHARE_ALONE * total))


def _shared_keys(windows: _Windows, rule: Rule, after: Flags, before: Flags, cuts: Flags) -> Flags:
    """Return for each distinct run whether it is in a stretch of frequent runs with an open end."""
    cuts_before = np.cumsum(cuts)
    crosses = cuts_before[windows.start + rule.length - 1] > cuts_before[windows.start]
    usable = (windows.texts[windows.key] >= rule.texts) & ~crosses
    follows = usable[1:] & usable[:-1] & (windows.start[1:] == windows.start[:-1] + 1)
    first = np.flatnonzero(usable & ~np.concatenate([[False], follows]))
    last = np.flatnonzero(usable & ~np.concatenate([follows, [False]]))
    accepted = after[windows.key[last]] | before[windows.key[first]]
    depth = np.zeros(windows.key.size + 1, dtype=np.int64)
    np.add.at(depth, first[accepted], 1)
    np.add.at(depth, last[accepted] + 1, -1)
    shared = np.zeros(windows.texts.size, dtype=bool)
    shared[windows.key[np.cumsum(depth[:-1]) > 0]] = True
    return shared


def _rest(text: Words, in_shared: Flags, cuts: Flags, rows_at: Indices) -> Words:
    rest = tuple(word for word, removed in zip(text, in_shared.tolist(), strict=True) if not removed)
    if len(rest) >= MIN_REST:
        return rest
    changes = np.concatenate([[True], in_shared[1:] != in_shared[:-1]]) | cuts
    edges = [*np.flatnonzero(changes).tolist(), len(text)]
    runs = [(begin, end) for begin, end in pairwise(edges) if in_shared[begin]]
    if rest:
        return (*(name_of(text[begin:end]) for begin, end in runs), *rest)
    begin, end = min(runs, key=lambda run: int(rows_at[run[0] : run[1]].min()))
    return text[begin:end]
