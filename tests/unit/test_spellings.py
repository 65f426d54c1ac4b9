from __future__ import annotations

from optimizer_worker.operators.spellings import merged_spellings, preferred, spelling_notice, with_slices
from tests.examples import labelled, row

REFUNDS = labelled(
    ("a", "refund"), ("b", "Refund"), ("c", "REFUND "), ("d", "refund\u200b"), ("e", "refund"), ("f", "other")
)


def test_spellings_of_one_label_are_listed_together() -> None:
    notice = spelling_notice(REFUNDS)
    assert notice is not None and notice.rows == 3 and notice.places == ("r1", "r2", "r3")
    assert "'refund' 2 times, 'Refund' 1 times, 'REFUND ' 1 times" in notice.text


def test_labels_in_one_spelling_give_no_notice() -> None:
    assert spelling_notice(labelled(("a", "yes"), ("b", "no"), ("c", "yes"))) is None


def test_labels_that_differ_in_a_symbol_are_no_spellings_of_one() -> None:
    assert preferred(["C", "C#", "C++", "\U0001f44d", "\U0001f44e", "+", "-"]) == {}


def test_merging_writes_the_most_frequent_spelling_and_records_each_row() -> None:
    rewritten, decisions = merged_spellings(REFUNDS)
    assert {each.response for each in rewritten} == {"refund"}
    assert [decision.row for decision in decisions] == ["r1", "r2", "r3"]


def test_a_slice_gets_the_most_frequent_name() -> None:
    rows = [row("a", "x", "1", "Cards"), row("b", "x", "2", "cards"), row("c", "x", "3", "cards")]
    assert [each.slice for each in with_slices(rows, preferred(each.slice for each in rows))] == ["cards"] * 3
