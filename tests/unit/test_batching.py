from __future__ import annotations

import random
from itertools import islice

import pytest

from trainer_worker.programs.batching import Batch, BatchStream, plan_epoch

LENGTHS = [random.Random(7).randint(3, 60) for _ in range(500)]
BUDGET = 256


def _plan(lengths: list[int] = LENGTHS, budget: int = BUDGET, seed: int = 1) -> list[Batch]:
    return plan_epoch(lengths, budget, random.Random(seed))


def _padded(batch: Batch, lengths: list[int] = LENGTHS) -> int:
    return len(batch) * max(lengths[row] for row in batch)


def test_an_epoch_holds_every_row_once() -> None:
    assert sorted(row for batch in _plan() for row in batch) == list(range(len(LENGTHS)))


def test_no_batch_is_larger_than_the_budget_with_its_padding() -> None:
    assert max(_padded(batch) for batch in _plan()) <= BUDGET


def test_rows_of_like_length_leave_little_padding() -> None:
    padded = sum(_padded(batch) for batch in _plan())
    assert sum(LENGTHS) / padded > 0.95


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert [4] in _plan([10, 10, 10, 10, 300], budget=40)


def test_left_over_rows_are_spread_over_the_batches() -> None:
    sizes = sorted(len(batch) for batch in _plan([10] * 41, budget=100))
    assert sizes[0] >= 5


def test_the_same_seed_gives_the_same_batches() -> None:
    assert _plan(seed=3) == _plan(seed=3)


def test_each_epoch_is_shuffled_anew() -> None:
    stream = BatchStream(LENGTHS, BUDGET, seed=1)
    first = list(islice(stream, stream.per_epoch()))
    assert first != list(islice(stream, len(first)))


@pytest.mark.parametrize("taken", [1, 5, 200])
def test_a_stream_goes_on_from_the_position_it_is_given(taken: int) -> None:
    stream, other = BatchStream(LENGTHS, BUDGET, seed=1), BatchStream(LENGTHS, BUDGET, seed=1)
    list(islice(stream, taken))
    other.epoch, other.index = stream.epoch, stream.index
    assert list(islice(other, 50)) == list(islice(stream, 50))
