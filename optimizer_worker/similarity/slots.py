"""Find short texts that many rows repeat except for one word, such as "Translate the word … into French"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

from optimizer_worker.similarity.normalization import Words
from optimizer_worker.similarity.shingles import Indices

MAX_WORDS = 24
"""Words of the longest text that is searched; one word changes little in a longer one."""
MIN_WORDS = 3
MIN_FILLERS = 8
"""Minimum number of different words in one place of otherwise equal texts."""
MAX_SHARE_OF_ONE = 0.5
"""Maximum share of the rows with the same word in that place; if more have it, the others are copies with an edit."""


class _Places(NamedTuple):
    """Every place of every text; each array has shape (places,)."""

    text: Indices
    position: Indices
    frame: Indices
    """Number of the distinct text around the place."""
    filler: Indices
    """Number of the word in the place."""


def without_frames(texts: Sequence[Words]) -> list[Words]:
    """Return the texts without the words around a place in which otherwise equal texts have many different words.

    One private word stands for the words between two such places, so that texts with other words there differ.
    """
    rows = Counter(text for text in texts if MIN_WORDS <= len(text) < MAX_WORDS)
    if len(rows) < MIN_FILLERS:
        return list(texts)
    distinct = list(rows)
    slots = _slots(distinct, rows)
    rest = {distinct[text]: _fillers(distinct[text], places) for text, places in slots.items()}
    return [rest.get(text, text) for text in texts]


def _slots(texts: Sequence[Words], rows: Counter[Words]) -> dict[int, list[int]]:
    """Return, for each text that has some, the positions of its slots."""
    places = _all_places(texts)
    weight = np.array([rows[text] for text in texts])[places.text]
    width = int(places.filler.max()) + 1
    pair, index = np.unique(places.frame * width + places.filler, return_inverse=True)
    count, frame = np.bincount(index, weight), pair // width
    total, fillers = np.bincount(frame, count), np.bincount(frame)
    top = np.zeros(total.size)
    np.maximum.at(top, frame, count)
    is_slot = ((fillers >= MIN_FILLERS) & (top < MAX_SHARE_OF_ONE * total))[places.frame]
    found: dict[int, list[int]] = {}
    for text, position in zip(places.text[is_slot].tolist(), places.position[is_slot].tolist(), strict=True):
        if (*texts[text][:position], *texts[text][position + 1 :]) not in rows:  # else the word was inserted
            found.setdefault(text, []).append(position)
    return found


def _all_places(texts: Sequence[Words]) -> _Places:
    lengths = np.array([len(text) for text in texts])
    text = np.repeat(np.arange(len(texts)), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    frames = np.fromiter(_frames(texts), dtype=np.int64, count=text.size)
    numbers: dict[str, int] = {}
    filler = np.array([numbers.setdefault(word, len(numbers)) for words in texts for word in words])
    return _Places(text, position, np.unique(frames, return_inverse=True)[1], filler)


def _frames(texts: Sequence[Words]) -> Iterator[int]:
    for text in texts:
        for position in range(len(text)):
            yield hash((text[:position], text[position + 1 :]))


def _fillers(text: Words, places: Sequence[int]) -> Words:
    rest: list[str] = []
    begin = 0
    for position in (*places, len(text)):
        if text[begin:position]:
            rest.append(name_of(text[begin:position]))
        rest += text[position : position + 1]
        begin = position + 1
    return tuple(rest)


def name_of(run: Words) -> str:
    """Return one private character that stands for removed words, and is the same in every process."""
    return chr(0xF0000 + crc32(" ".join(run).encode()) % 0xFFFE)
