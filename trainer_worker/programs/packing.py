"""Pack plain text into blocks, with the end-of-text token between two texts, as in pretraining."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from trainer_worker.programs.examples import Example


def pack(texts: Sequence[Example], length: int, eos: int, seed: int) -> Iterator[Example]:
    """Yield blocks of `length` tokens, the last one shorter, in which each token is predicted exactly once.

    Blocks without a scored token are left out. The texts are shuffled, so that neighbours in the file do not end up in
    the same block.
    """
    order = list(texts)
    random.Random(seed).shuffle(order)  # noqa: S311  # a shuffle, not used for security
    start = Example(np.asarray([eos], dtype=np.int32), np.zeros(1, dtype=np.float32))
    ids = np.concatenate([text.ids for text in (start, *order)])
    weights = np.concatenate([text.weights for text in (start, *order)])
    # The first token of a block is not predicted, so each block starts with the last token of the previous one.
    for begin in range(0, len(ids) - 1, length - 1):
        block = Example(ids[begin : begin + length], weights[begin : begin + length])
        if block.has_scored_tokens:
            yield block
