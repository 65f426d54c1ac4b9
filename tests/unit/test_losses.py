from __future__ import annotations

import pytest

from infra.errors import BadInput
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.losses import check_loss


def dropped(count: int, rule: str = "near_duplicate", dataset: str = "train") -> list[RuleDecision]:
    return [
        RuleDecision(f"{dataset}/a.csv:{n}", Action.DROPPED, rule, parent=f"{dataset}/a.csv:99") for n in range(count)
    ]


def ids(count: int, dataset: str = "train") -> list[str]:
    return [f"{dataset}/a.csv:{n}" for n in range(count)]


def test_a_rule_that_takes_more_than_the_allowed_share_stops_with_an_example_and_a_way_out() -> None:
    with pytest.raises(BadInput) as caught:
        check_loss(dropped(6), ids(10), 0.5)
    assert str(caught.value) == (
        "the rule near_duplicate would remove 6 of 10 rows, more than the share 0.5 that maxLoss allows; for example "
        "train/a.csv:0, which repeats train/a.csv:99; if the rows do differ, raise nearDuplicate (at most 1), or set "
        "maxLoss to 1 to remove them"
    )
    assert caught.value.field == "maxLoss"


def test_exactly_the_allowed_share_is_removed() -> None:
    check_loss(dropped(5), ids(10), 0.5)


def test_two_rules_that_take_most_rows_together_are_allowed() -> None:
    check_loss([*dropped(5), *dropped(5, "wrong_label")], ids(10), 0.5)


def test_rows_that_are_gone_already_do_not_count() -> None:
    check_loss(dropped(10), ids(4), 1.0)
    check_loss(dropped(10)[4:], ids(4), 0.5)


def test_rewriting_is_no_loss() -> None:
    check_loss([RuleDecision(row, Action.REWRITTEN, "tidied") for row in ids(10)], ids(10), 0.5)


def test_no_row_of_the_sealed_split_is_named() -> None:
    with pytest.raises(BadInput, match="would remove 6 of 10 rows") as caught:
        check_loss(dropped(6, "empty_answer", "test"), ids(10, "test"), 0.5)
    assert "test/" not in str(caught.value)
