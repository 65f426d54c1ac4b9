from __future__ import annotations

from pathlib import Path

import pytest

from contracts.notices import MAX_PLACES, Notice
from infra.errors import BadInput
from tests.uploads import chat, lines, read, said

GOOD = {"prompt": "q", "response": "a"}
BAD = {"prompt": "q", "response": 7}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"text": "x", ', "not JSON"),
        ("[1, 2]", "expected an object, got list"),
        ('{"other": 1}', "expected the fields of text and category (text, category), got other"),
        ('{"text": 5, "category": "c"}', "text: expected a string, got int"),
        ('{"text": "\udc80", "category": "c"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_quarantined_with_its_place_and_reason(tmp_path: Path, bad: str, reason: str) -> None:
    good = lines({"text": "a", "category": "b"})
    reading = read(tmp_path, a__jsonl=(good + bad + "\n" + good).encode("utf-8", "surrogateescape"))
    (item,) = reading.unreadable
    assert (item.file, item.line, len(reading.rows)) == ("train/a.jsonl", 2, 2)
    assert reason in item.reason


def test_a_file_of_which_half_is_lost_is_read_with_a_notice(tmp_path: Path) -> None:
    reading = read(tmp_path, a__jsonl=lines(*[GOOD] * 20, *[BAD] * 20))
    text = (
        "20 of 40 lines of train could not be read and were set aside: "
        "response: expected a string, got int; write it in double quotes"
    )
    places = tuple(f"train/a.jsonl:{line}" for line in range(21, 21 + MAX_PLACES))
    assert (len(reading.rows), len(reading.unreadable)) == (20, 20)
    assert reading.notices == [Notice(rule="unreadable", rows=20, text=text, places=places)]


def test_a_file_of_which_more_than_half_is_lost_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        read(tmp_path, a__jsonl=lines(GOOD, "x", BAD, BAD))
    assert str(error.value) == (
        "train/a.jsonl: 3 of 4 lines could not be read, more than half of the file; the most frequent reason (2 lines, "
        "the first is line 3) is: response: expected a string, got int; write it in double quotes; correct these "
        "lines, or remove them, and upload the file again"
    )
    assert error.value.field == "train/a.jsonl:3"


def test_each_file_is_judged_by_itself(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^train/b\.jsonl: 2 of 3 lines"):
        read(tmp_path, a__jsonl=lines(*[GOOD] * 9, *[BAD] * 9), aa__jsonl=lines(GOOD), b__jsonl=lines(GOOD, BAD, BAD))


def test_reasons_that_differ_in_their_place_alone_have_one_notice(tmp_path: Path) -> None:
    long = {"messages": [said("user", "a"), said("assistant", "b"), said("user", 5), said("assistant", "d")]}
    short = {"messages": [said("user", 5), said("assistant", "b")]}
    reading = read(tmp_path, a__jsonl=lines(chat("a", "b"), chat("c", "d"), long, short))
    assert [notice.rows for notice in reading.notices] == [2]
    assert "messages[…].content: expected a string" in reading.notices[0].text


def test_many_reasons_have_few_notices_that_count_all_lines(tmp_path: Path) -> None:
    values = (1, 1.0, True, None, [], {}, "", ["x"])
    records = [{**GOOD, field: value} for field in ("input", "system", "tools", "weight") for value in values]
    reading = read(tmp_path, a__jsonl=lines(*[GOOD] * len(records), *records))
    unreadable = [notice.rows for notice in reading.notices if notice.rule == "unreadable"]
    assert len(unreadable) == 6 and sum(unreadable) == len(reading.unreadable)


EXCLUDED = [{**GOOD, "weight": 0}, {**GOOD, "label": False}, chat("q", "a", weight=0)]


@pytest.mark.parametrize("record", EXCLUDED)
def test_lines_that_are_not_to_be_learnt_have_a_rule_of_their_own(tmp_path: Path, record: object) -> None:
    good = chat("q", "a") if "messages" in record else GOOD  # type: ignore[operator]
    reading = read(tmp_path, a__jsonl=lines(good, *[record] * 3))
    assert ([item.rule for item in reading.unreadable], len(reading.rows)) == (["not_learnt"] * 3, 1)
    (found,) = reading.notices
    assert (found.rule, found.rows) == ("not_learnt", 3)
    assert found.text.startswith("3 of 4 lines of train are not to be learnt and were set aside: ")


def test_lines_that_are_not_to_be_learnt_do_not_make_a_file_broken(tmp_path: Path) -> None:
    assert len(read(tmp_path, a__jsonl=lines(GOOD, BAD, BAD, *[EXCLUDED[0]] * 3)).rows) == 1


def test_a_dataset_of_which_nothing_is_to_be_learnt_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no rows; .*; 2 lines are not to be learnt, most .* of weight: is 0"):
        read(tmp_path, a__jsonl=lines(EXCLUDED[0], EXCLUDED[0]))


def test_nothing_of_an_unreadable_test_line_is_kept(tmp_path: Path) -> None:
    reading = read(tmp_path, "test", a__jsonl=lines({"text": "a", "label": "b"}) + '{"secret": "secret"}\n')
    found = reading.unreadable[0].model_dump_json() + reading.notices[0].model_dump_json()
    assert "secret" not in found and "a.jsonl" not in reading.notices[0].model_dump_json()


@pytest.mark.parametrize("bad", ['{"secret": 1}', '{"secret', '{"secret": 1, "secret": 2}', "secret"])
def test_a_test_file_that_is_refused_is_not_quoted(tmp_path: Path, bad: str) -> None:
    with pytest.raises(BadInput) as error:
        read(tmp_path, "test", a__jsonl=f"{lines(GOOD)}{bad}\n{bad}\n")
    assert "secret" not in str(error.value) and "2 of 3 lines" in str(error.value)


def test_a_test_file_of_no_known_format_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"test/a\.jsonl:1 has fields of no known format; known are") as error:
        read(tmp_path, "test", a__jsonl='{"secret": 1}\n')
    assert "secret" not in str(error.value)
