from __future__ import annotations

from contracts.options import Metric
from contracts.report import BadCase, Confusion, Score, SliceScore, Suggestion
from evaluator_worker.suggestions import SHARES, suggest
from infra.statistics import wilson


def _score(value: float, rows: int = 100) -> Score:
    low, high = wilson(value, rows)
    return Score(metric=Metric.EXACT_MATCH, value=value, low=low, high=high, scored=rows)


def _slice(name: str, right: int, rows: int) -> SliceScore:
    low, high = wilson(right / rows, rows)
    return SliceScore(name=name, value=right / rows, low=low, high=high, rows=rows)


def _case(row_id: str, expected: str, predicted: str) -> BadCase:
    return BadCase(row_id=row_id, slice=expected, prompt="?", expected=expected, predicted=predicted, value=0.0)


def _of(action: str, suggestions: tuple[Suggestion, ...]) -> dict[str, Suggestion]:
    return {s.slice: s for s in suggestions if s.action == action}


def test_only_slices_whose_interval_is_below_the_score_get_rows() -> None:
    slices = [_slice("lost", 0, 20), _slice("unlucky", 8, 20), _slice("fine", 19, 20)]
    assert list(_of("add_rows", suggest(_score(0.5), slices, (), ()))) == ["lost"]


def test_rows_are_shared_by_error_mass() -> None:
    slices = [_slice("large", 0, 60), _slice("small", 0, 20), _slice("fine", 80, 80)]
    shares = {name: s.rows for name, s in _of("add_rows", suggest(_score(0.5), slices, (), ())).items()}
    assert shares == {"large": 75, "small": 25}


def test_the_shares_sum_to_a_hundred_however_they_round() -> None:
    slices = [_slice(name, 0, 20) for name in "abcdefg"]
    assert sum(s.rows for s in _of("add_rows", suggest(_score(0.5), slices, (), ())).values()) == SHARES


def test_all_slices_below_the_score_share_if_no_slice_is_surely_weak() -> None:
    slices = [_slice("below", 9, 20), _slice("above", 11, 20)]
    assert list(_of("add_rows", suggest(_score(0.5), slices, (), ()))) == ["below"]


def test_a_perfect_score_gives_no_suggestion() -> None:
    assert suggest(_score(1.0), [_slice("a", 20, 20), _slice("b", 20, 20)], (), ()) == ()


def test_a_suggestion_carries_the_bad_cases_of_its_slice() -> None:
    cases = (_case("1", "lost", "fine"), _case("2", "other", "fine"), _case("3", "lost", "other"))
    suggestions = suggest(_score(0.5), [_slice("lost", 0, 20), _slice("fine", 20, 20)], cases, ())
    assert _of("add_rows", suggestions)["lost"].bad_cases == ("1", "3")


def test_a_strong_confusion_in_both_directions_suggests_a_check_of_the_labels() -> None:
    slices = [_slice("a", 12, 20), _slice("b", 12, 20)]
    cases = (_case("1", "a", "b"), _case("2", "b", "a"), _case("3", "a", "c"))
    confusions = (
        Confusion(expected="a", predicted="b", rows=6),
        Confusion(expected="b", predicted="a", rows=5),
    )
    check = _of("check_labels", suggest(_score(0.6), slices, cases, confusions))
    assert (check["a"].rows, check["a"].bad_cases) == (11, ("1", "2"))


def test_a_confusion_in_one_direction_is_no_reason_to_doubt_the_labels() -> None:
    slices = [_slice("a", 8, 20), _slice("b", 20, 20)]
    confusions = (Confusion(expected="a", predicted="b", rows=12),)
    assert _of("check_labels", suggest(_score(0.7), slices, (), confusions)) == {}
