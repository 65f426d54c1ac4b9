from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.errors import BadInput
from optimizer_worker.reading.dataset import ReadResult
from optimizer_worker.reading.json_documents import COLUMNS
from optimizer_worker.reading.json_lines import BRACKETS, COMMENT, SPREAD
from optimizer_worker.reading.json_text import COMMA, CONTROL, IN_A_ROW, NO_NUMBER
from tests.uploads import lines, notes, read

RECORDS = [{"prompt": f"q{i}", "response": f"a{i}"} for i in range(4)]
PAIRS = [(f"q{i}", f"a{i}") for i in range(4)]
LINES = [json.dumps(record) for record in RECORDS]
PRETTY = [json.dumps(record, indent=2) for record in RECORDS]
FIRST_OF_TWO = '{"prompt": "a", "response": "b"}'


def pairs(reading: ReadResult) -> list[tuple[str, str]]:
    return [(row.prompt, row.response) for row in reading.rows]


def numbers(reading: ReadResult) -> list[int]:
    return [row.source.line for row in reading.rows if row.source]


@pytest.mark.parametrize(
    ("content", "first_lines", "noted"),
    [
        ("\n".join(LINES), [1, 2, 3, 4], []),
        ("\r\n".join(LINES), [1, 2, 3, 4], []),
        ("\r".join(LINES), [1, 2, 3, 4], []),
        ("\n\n".join(LINES), [1, 3, 5, 7], []),
        (",\n".join(LINES), [1, 2, 3, 4], [COMMA]),
        ("# mine\n// too\n" + "\n".join(LINES), [3, 4, 5, 6], [COMMENT]),
        ("\n".join(LINES[:2]) + "\n\ufeff" + "\n".join(LINES[2:]), [1, 2, 3, 4], []),
        ("\n".join(PRETTY), [1, 5, 9, 13], [SPREAD]),
        (",\n".join(PRETTY), [1, 5, 9, 13], [SPREAD, COMMA]),
        ("[\n" + "\n".join(LINES) + "\n]", [2, 3, 4, 5], [BRACKETS]),
        ("[" + "\n".join(LINES) + "]", [1, 2, 3, 4], [BRACKETS]),
        ("\n".join(LINES) + "\n]", [1, 2, 3, 4], [BRACKETS]),
        ("[" + ",\n".join(LINES) + "]", [1, 2, 3, 4], []),
        ("[" + ",\n".join(LINES) + ",\n]", [1, 2, 3, 4], [COMMA]),
        (json.dumps(RECORDS, indent=1), [1, 2, 3, 4], []),
        ("".join(LINES), [1, 2, 3, 4], [IN_A_ROW]),
        (", ".join(LINES), [1, 2, 3, 4], [IN_A_ROW]),
    ],
)
def test_what_is_almost_json_lines_is_read_with_a_note(
    tmp_path: Path, content: str, first_lines: list[int], noted: list[str]
) -> None:
    reading = read(tmp_path, a__jsonl=content)
    assert (pairs(reading), reading.unreadable) == (PAIRS, [])
    assert (numbers(reading), notes(reading)) == (first_lines, [f"train: {text}" for text in noted])


@pytest.mark.parametrize(
    "wrapper", [{"data": RECORDS}, {"train": RECORDS, "version": 1}, {"data": RECORDS, "empty": []}]
)
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_the_rows_may_be_in_the_only_list_of_one_object(tmp_path: Path, wrapper: object, indent: int | None) -> None:
    reading = read(tmp_path, a__json=json.dumps(wrapper, indent=indent))
    assert (pairs(reading), numbers(reading)) == (PAIRS, [1, 2, 3, 4])
    assert notes(reading) == ["train: the file is one object, whose list of objects holds the rows"]


def test_the_rows_may_be_the_values_of_one_object(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, a__json=json.dumps({str(i): record for i, record in enumerate(RECORDS)}))) == PAIRS


@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_may_be_one_row(tmp_path: Path, indent: int | None) -> None:
    assert pairs(read(tmp_path, a__json=json.dumps(RECORDS[0], indent=indent))) == PAIRS[:1]


def test_one_conversation_may_be_a_whole_file(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert pairs(read(tmp_path, a__json=json.dumps(messages))) == [("q", "a")]


def test_a_file_with_several_datasets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds several lists of rows \(train, test\); upload each"):
        read(tmp_path, a__json=json.dumps({"train": RECORDS, "test": RECORDS}))


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": {"0": "a", "1": "b"}, "response": {"0": "c", "1": "d"}},
        {"prompt": ["a", "b"], "response": ["c", "d"]},
    ],
)
def test_columns_instead_of_rows_are_refused_with_the_way_to_write_rows(tmp_path: Path, columns: object) -> None:
    with pytest.raises(BadInput, match="orient='records'") as error:
        read(tmp_path, a__json=json.dumps(columns))
    assert COLUMNS in str(error.value)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("form", ["{}\n{}", "[{},{}]"])
def test_not_a_number_counts_as_missing(tmp_path: Path, constant: str, form: str) -> None:
    record = f'{{"instruction": "q", "input": {constant}, "output": "NaN"}}'
    reading = read(tmp_path, a__json=form.format(record, record))
    assert (pairs(reading), notes(reading)) == ([("q", "NaN")] * 2, [f"train: {NO_NUMBER}"])


def test_an_answer_that_is_not_a_number_is_missing(tmp_path: Path) -> None:
    reading = read(tmp_path, a__jsonl=lines(*RECORDS) + '{"prompt": "q", "response": NaN}\n')
    assert [item.reason for item in reading.unreadable] == ["response: expected a string, got nothing"]


@pytest.mark.parametrize(("raw", "text"), [("one\ntwo", "one\ntwo"), ("one\ttwo", "one\ttwo")])
def test_a_raw_line_end_or_tab_in_a_text_is_read(tmp_path: Path, raw: str, text: str) -> None:
    reading = read(tmp_path, a__jsonl=f'{{"prompt": "{raw}", "response": "a"}}\n{lines(*RECORDS)}')
    assert (pairs(reading)[0], len(reading.rows)) == ((text, "a"), 5) and f"train: {CONTROL}" in notes(reading)


def test_a_broken_object_over_several_lines_is_one_unreadable_line(tmp_path: Path) -> None:
    broken = PRETTY[1].replace(":", "", 1)
    reading = read(tmp_path, a__jsonl="\n".join([PRETTY[0], broken, *PRETTY[2:]]))
    assert (numbers(reading), [item.line for item in reading.unreadable]) == ([1, 9, 13], [5])


def test_a_broken_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    reading = read(tmp_path, a__jsonl="\n".join([LINES[0], '{"prompt": "x', "junk", LINES[1], LINES[2]]))
    assert (numbers(reading), [item.line for item in reading.unreadable]) == ([1, 4, 5], [2, 3])


def test_a_broken_line_costs_one_row_also_if_lines_end_with_carriage_returns(tmp_path: Path) -> None:
    reading = read(tmp_path, a__jsonl="\r".join([LINES[0], '{"prompt": "x', *LINES[1:]]))
    assert (numbers(reading), [item.line for item in reading.unreadable]) == ([1, 3, 4, 5], [2])


def test_a_broken_item_of_an_array_of_lines_costs_one_row(tmp_path: Path) -> None:
    content = "[" + ",\n".join([LINES[0], '{"prompt": x}', *LINES[2:]]) + "]"
    reading = read(tmp_path, a__json=content)
    assert (numbers(reading), [item.line for item in reading.unreadable]) == ([1, 3, 4], [2])


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ("{'prompt': 'q', 'response': 'a'}", "not JSON but Python, with single quotes: write each row with json.dumps"),
        ("{“prompt”: “q”}", "not JSON: the quotes are typographic ones; write straight ones"),
        (LINES[0] + LINES[1], "several objects on one line: write each on a line of its own"),
        ('{"prompt": "a", "prompt": "b", "response": "c"}', "a field is given twice: prompt"),
        ('{"prompt": "x",', "not JSON: unexpected end of data at column 16"),
        ("[1, 2]", "expected an object, got list"),
        ("null", "expected an object, got nothing"),
        ("[" * 100_000, "not JSON: depth limit exceeded at column 1026"),
    ],
)
def test_a_line_that_cannot_be_read_has_a_reason(tmp_path: Path, bad: str, found: str) -> None:
    (item,) = read(tmp_path, a__jsonl=f"{lines(*RECORDS)}{bad}\n").unreadable
    assert (item.reason, item.line, item.content) == (found, 5, bad[:500])


def test_a_field_that_an_array_gives_twice_costs_one_row(tmp_path: Path) -> None:
    twice = '{"prompt": "a", "prompt": "b", "response": "c"}'
    reading = read(tmp_path, a__json=f"[{twice}, {LINES[0]}]")
    assert (pairs(reading), reading.unreadable[0].reason) == (PAIRS[:1], "a field is given twice: prompt")


@pytest.mark.parametrize(
    "twice",
    [
        '{"messages": [{"role": "user", "content": "q", "content": "r"}, {"role": "assistant", "content": "a"}]}',
        '[{"role": "user", "content": "q", "content": "r"}, {"role": "assistant", "content": "a"}]',
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "content": "b"},]}',
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", '
        '"tool_calls": [{"function": {"name": "f", "arguments": {"content": 1, "content": 2}}}]}]}',
    ],
)
@pytest.mark.parametrize("form", ["{}\n{}", "[{}, {}]"])
def test_a_field_that_a_message_gives_twice_costs_one_row(tmp_path: Path, twice: str, form: str) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]})
    reading = read(tmp_path, a__json=form.format(twice, good))
    assert (pairs(reading), reading.unreadable[0].reason) == ([("x", "y")], "a field is given twice: content")


@pytest.mark.parametrize(
    "broken",
    [
        '{\\"prompt\\": \\"' + "word " * 200_000 + '\\"}',
        '{\\"a\\": \\"x\\", ' * 70_000 + "}",
        '{"prompt": ' + ", " * 500_000 + "}",
        '{"a": 1}' * 125_000 + '{"a"}',
        "{" + ", ".join(f'"k{i}": 1' for i in range(100_000)) + ', "k1": 2}',
        "[ " * 500_000 + "{",
    ],
    ids=["escaped", "escaped quotes", "commas", "objects", "many names", "brackets"],
)
def test_a_very_long_broken_line_is_set_aside(tmp_path: Path, broken: str) -> None:
    reading = read(tmp_path, a__jsonl=f"{lines(*RECORDS)}{broken}\n")
    assert (pairs(reading), [item.line for item in reading.unreadable]) == (PAIRS, [5])


def test_a_field_in_a_field_of_the_same_name_is_not_given_twice(tmp_path: Path) -> None:
    record = {**RECORDS[0], "meta": {"prompt": "x"}}
    assert len(read(tmp_path, a__jsonl=lines(record, RECORDS[1])).rows) == 2


@pytest.mark.parametrize(
    "content", ['[{"text": "a"},\n{"text": ', '[{"text": "a"},\n{"text": "b"}', '[{"text": "a"},\n{"te']
)
def test_an_array_that_breaks_off_names_the_line(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadInput, match=r"train/a\.json:2 is not JSON: .*the file may have been cut off") as error:
        read(tmp_path, a__json=content)
    assert error.value.field == "train/a.json:2"


def test_an_array_that_is_broken_inside_a_row_of_several_lines_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train/a\.json:3 is not JSON: .*correct this line"):
        read(tmp_path, a__json=json.dumps(RECORDS, indent=1).replace(":", "", 1))


@pytest.mark.parametrize("array", [False, True])
def test_deep_nesting_breaks_nothing(tmp_path: Path, array: bool) -> None:
    deep = '{"prompt": "q", "response": "a", "more": %s1%s}' % ('{"more": ' * 1000, "}" * 1000)  # noqa: UP031
    content = f"[{deep}, {LINES[0]}]" if array else f"{deep}\n{LINES[0]}"
    assert pairs(read(tmp_path, a__json=content)) == [("q", "a"), PAIRS[0]]


def test_an_array_with_a_line_in_another_encoding_names_the_line(tmp_path: Path) -> None:
    content = json.dumps([*RECORDS, {"prompt": "e", "response": "a"}], indent=1).replace('"e"', '"\u00e9"')
    with pytest.raises(BadInput, match=r"train/a\.json:19 is not UTF-8; .*WINDOWS-1252"):
        read(tmp_path, a__json=content.encode("latin-1"))


def test_a_lone_surrogate_costs_one_row(tmp_path: Path) -> None:
    reading = read(tmp_path, a__json=json.dumps([{"prompt": "\ud800", "response": "a"}, *RECORDS]))
    assert (pairs(reading), reading.unreadable[0].reason) == (PAIRS, "holds text that is not valid Unicode")
