from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from contracts.rows import Row
from infra.models.chat_format import ChatFormat
from tests.models import colour_row, colour_rows, tiny_model, tiny_tokenizer
from trainer_worker.programs.examples import make_examples
from trainer_worker.programs.objective import Scored, collate, loss_of, scored_logits

TOKENIZER = tiny_tokenizer()
LONG = Row(id="t", turns=tuple(turn.model_copy(update={"content": "a b c " * 6}) for turn in colour_row("sky").turns))
MIXED = [colour_row("sky", weight=3.0), LONG, colour_row("coal")]


def _batch(rows: list[Row]) -> Scored:
    return collate(make_examples(rows, ChatFormat(TOKENIZER), None).items, 0, torch.device("cpu"))


@pytest.fixture
def model() -> torch.nn.Module:
    return tiny_model(len(TOKENIZER)).eval().requires_grad_(requires_grad=False)


def test_logits_of_scored_positions_equal_those_of_the_full_computation(model: torch.nn.Module) -> None:
    batch = _batch(MIXED)
    full = model(input_ids=batch.ids).logits.flatten(0, 1)[batch.positions]
    assert torch.allclose(scored_logits(model, batch), full, atol=1e-5)


def test_targets_are_the_assistants_tokens_and_the_end_of_its_turn() -> None:
    assert TOKENIZER.decode(_batch([colour_row("sky")]).targets) == "sky is blue <|end|>"


def test_padding_changes_no_loss(model: torch.nn.Module) -> None:
    row, longer = colour_rows()[0], MIXED[1].model_copy(update={"weight": 1e-6})
    alone, padded = loss_of(model, _batch([row])).item(), loss_of(model, _batch([row, longer])).item()
    assert padded == pytest.approx(alone, rel=1e-4)


def test_the_loss_is_the_mean_over_scored_tokens_weighted_by_row(model: torch.nn.Module) -> None:
    batch = _batch(MIXED)
    expected = sum(_summed_loss(model, row) * row.weight for row in MIXED)
    weight = sum(len(_batch([row]).targets) * row.weight for row in MIXED)
    assert loss_of(model, batch).item() == pytest.approx(expected / weight, rel=1e-5)


def test_the_weight_of_a_row_is_multiplied_by_the_factor_of_its_slice(model: torch.nn.Module) -> None:
    heavy, double = colour_row("sky", weight=6.0), colour_row("sky", weight=3.0).model_copy(update={"slice_weight": 2})
    expected = loss_of(model, _batch([heavy, LONG])).item()
    assert loss_of(model, _batch([double, LONG])).item() == pytest.approx(expected)


def _summed_loss(model: torch.nn.Module, row: Row) -> float:
    """The summed loss of a row in a batch of its own, from the logits of all positions."""
    batch = _batch([row])
    logits = model(input_ids=batch.ids).logits[0][batch.positions]
    return cross_entropy(logits, batch.targets, reduction="sum").item()


def test_tokens_that_are_padding_are_not_counted() -> None:
    assert _batch(MIXED).tokens == sum(_batch([row]).tokens for row in MIXED)
