from __future__ import annotations

import numpy as np

from trainer_worker.programs.examples import Example
from trainer_worker.programs.packing import pack

EOS = 9


def _text(*ids: int, weight: float = 1.0) -> Example:
    tokens = np.asarray([*ids, EOS], dtype=np.int32)
    return Example(tokens, np.full(len(tokens), weight, dtype=np.float32))


TEXTS = [_text(1, 2, 3), _text(4, 5), _text(6, weight=2.0)]


def test_each_token_is_predicted_exactly_once() -> None:
    predicted = [int(token) for block in pack(TEXTS, 4, EOS, seed=1) for token in block.ids[1:]]
    assert sorted(predicted) == sorted([1, 2, 3, 4, 5, 6, EOS, EOS, EOS])


def test_every_text_begins_after_an_end_of_text() -> None:
    (block,) = pack(TEXTS, 100, EOS, seed=1)
    before = {int(after): int(token) for token, after in zip(block.ids, block.ids[1:], strict=False)}
    assert (before[1], before[4], before[6]) == (EOS, EOS, EOS)


def test_no_block_is_longer_than_allowed() -> None:
    assert [len(block) for block in pack(TEXTS, 4, EOS, seed=1)] == [4, 4, 4]


def test_a_text_keeps_its_weight() -> None:
    (block,) = pack(TEXTS, 100, EOS, seed=1)
    assert block.weights[block.ids == 6].tolist() == [2.0]
