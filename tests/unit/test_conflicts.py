from __future__ import annotations

from contracts.rows import Row, ToolCall, Turn
from optimizer_worker.operators.conflicts import conflict_decisions, label_conflicts, near_conflicts
from tests.examples import labelled

QUESTION = "Why has my transfer to a friend not arrived yet?"


def test_one_prompt_with_two_answers_is_a_conflict_of_all_its_rows() -> None:
    groups = label_conflicts(labelled(("Where is it?", "a"), ("where is it", "b"), ("Who?", "c")))
    assert [[row.id for row in group] for group in groups] == [["r0", "r1"]]


def test_an_answer_in_other_letters_is_the_same_answer() -> None:
    assert label_conflicts(labelled(("Where is it?", "Over there."), ("Where is it?", "over there"))) == []


def test_sums_that_differ_in_their_operator_are_two_prompts() -> None:
    assert label_conflicts(labelled(("2+2?", "4"), ("2-2?", "0"))) == []


def test_plain_text_has_no_conflicts() -> None:
    assert label_conflicts([Row(id="a", text="x"), Row(id="b", text="x")]) == []


def test_the_reason_names_the_answers() -> None:
    (verdict, _) = conflict_decisions(label_conflicts(labelled(("q", "yes"), ("q", "no"))))
    assert verdict.reason == "this prompt has 2 different answers: no; yes"


def test_nearly_one_prompt_with_two_answers_is_a_near_conflict() -> None:
    (conflict,) = near_conflicts(labelled((QUESTION, "late"), (QUESTION.replace("friend", "frend"), "lost")), 0.8)
    assert (conflict.rows, conflict.answers) == (("r0", "r1"), ("late", "lost"))


def test_another_number_makes_another_question() -> None:
    assert near_conflicts(labelled((QUESTION + " 5", "late"), (QUESTION + " 6", "lost")), 0.8) == []


def calling(row_id: str, prompt: str, city: str) -> Row:
    call = ToolCall(name="weather", arguments=f'{{"city": "{city}"}}')
    turns = (Turn(role="user", content=prompt), Turn(role="assistant", content="", tool_calls=(call,)))
    return Row(id=row_id, turns=turns)


def test_the_reason_names_answers_that_are_calls() -> None:
    (verdict, _) = conflict_decisions([[calling("a", "q", "Rome"), calling("b", "q", "Oslo")]])
    assert verdict.reason == 'this prompt has 2 different answers: weather {"city": "Oslo"}; weather {"city": "Rome"}'
