from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.rows import Row, Source
from infra.errors import BadInput
from optimizer_worker.operators.cleaning import clean
from optimizer_worker.reading.fields import display_name
from tests.uploads import chat, lines, notes, one_row, read, reason, said

DATA = Path(__file__).parent.parent / "data"
QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.characters(codec="utf-8"))
NAMES = (
    *("messages", "conversations", "prompt", "response", "text", "label", "role", "from", "content", "value"),
    *("tool_calls", "function_call", "tools", "history", "system", "weight", "images", "name", "arguments"),
)


@pytest.mark.parametrize(
    ("file", "form", "rows"),
    [
        ("alpaca.json", "alpaca", 6),
        ("sharegpt.json", "ShareGPT", 4),
        ("question_answer.jsonl", "question and answer", 4),
        ("labelled.csv", "text and category", 6),
    ],
)
def test_a_real_file_is_recognised_by_its_fields(tmp_path: Path, file: str, form: str, rows: int) -> None:
    shutil.copy(DATA / file, tmp_path)
    reading = read(tmp_path)
    assert (reading.formats, len(reading.rows), reading.unreadable) == ({f"train/{file}": form}, rows, [])


def test_plain_text_has_no_turns(tmp_path: Path) -> None:
    row = one_row(tmp_path, {"text": "once upon a time"})
    assert (row.text, row.turns) == ("once upon a time", ())


def test_a_row_names_its_file_and_line(tmp_path: Path) -> None:
    row = read(tmp_path, a__jsonl="\n" + lines({"text": "once"})).rows[0]
    assert (row.id, row.source) == ("train/a.jsonl:2", Source(file="train/a.jsonl", line=2))


@pytest.mark.parametrize(
    "record",
    [
        {"text": "once", "slice": "tales", "weight": 2},
        {
            "messages": [
                said("system", "S"),
                said("user", "q", name="Ida"),
                said("assistant", "no", weight=0),
                said("user", "again"),
                said("assistant", "", tool_calls=[{"id": "c", "name": "f", "arguments": {}}], thinking="hm"),
                said("tool", "7", tool_call_id="c", name="f"),
                said("assistant", "7"),
            ],
            "tools": [{"name": "f"}],
            "category": "sums",
            "weight": 0.5,
        },
    ],
)
def test_canonical_rows_are_read_back_as_they_were(tmp_path: Path, record: object) -> None:
    row = one_row(tmp_path, record)
    again = read(tmp_path, a__jsonl=row.model_dump_json())
    assert (again.rows, again.notices) == ([row], [])


def test_the_factor_of_a_slice_ends_with_its_task(tmp_path: Path) -> None:
    row = one_row(tmp_path, {**chat("q", "a"), "weight": 5})
    weighted = row.model_copy(update={"slice_weight": 2.0})
    assert read(tmp_path, a__jsonl=weighted.model_dump_json()).rows == [row]


@QUICK
@given(prompt=TEXT, answer=TEXT, form=st.sampled_from(["pair", "chat", "label", "text"]))
def test_no_byte_of_a_kept_row_is_changed(tmp_path: Path, prompt: str, answer: str, form: str) -> None:
    record = {
        "pair": {"prompt": prompt, "response": answer},
        "chat": {"messages": [said("user", prompt), said("assistant", answer)]},
        "label": {"text": prompt, "category": answer},
        "text": {"text": prompt + answer},
    }[form]
    row = one_row(tmp_path, record)
    clean([row])
    kept = row.text if row.text is not None else [turn.content for turn in row.turns]
    given_texts = prompt + answer if form == "text" else [prompt, answer]
    assert json.dumps(kept) == json.dumps(given_texts).replace("\\r\\n", "\\n").replace("\\r", "\\n")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "q", "user", "gpt", "[]", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES]), inner, max_size=4),
    max_leaves=8,
)


@QUICK
@given(
    record=st.dictionaries(st.sampled_from([*NAMES]), VALUES, max_size=5),
    cut=st.integers(0, 40),
    sign=st.binary(max_size=2),
)
def test_any_file_is_read_or_refused_and_what_is_read_can_be_written(
    tmp_path: Path, record: dict[str, object], cut: int, sign: bytes
) -> None:
    content = (lines(record, chat("q", "a"), chat("r", "b")) + json.dumps(record)).encode()
    try:
        reading = read(tmp_path, a__jsonl=content[:cut] + sign + content[cut:])
    except BadInput:
        return
    assert [Row.model_validate_json(row.model_dump_json()) for row in reading.rows] == reading.rows
    assert all(item.model_dump_json() for item in (*reading.unreadable, *reading.notices))


@pytest.mark.parametrize(
    "text",
    [
        "    if x is None:\n        return None\n",
        "\ta\tb  c \n",
        "ភាសា\u200bខ្មែរ",
        "می\u200cشود",
        "\U0001f468\u200d\U0001f469",
        "e\u0301",
        "refund\u200b",
        "a\u00a0b",
    ],
)
def test_spaces_and_invisible_characters_of_a_text_stay(tmp_path: Path, text: str) -> None:
    assert one_row(tmp_path, {"prompt": "q", "completion": text}).response == text


def test_line_ends_become_line_feeds(tmp_path: Path) -> None:
    assert one_row(tmp_path, {"prompt": "a\r\nb\rc", "response": "d"}).prompt == "a\nb\nc"


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        (" REFUND ", "REFUND"),
        ("refund\u200b", "refund"),
        ("\ufeffa b", "a b"),
        ("می\u200cشود", "می\u200cشود"),
        ("a\0b", "ab"),
    ],
)
def test_a_name_of_a_category_has_no_space_or_invisible_character_at_its_ends(given_name: str, shown: str) -> None:
    assert display_name(given_name) == shown


def test_the_spelling_of_a_label_stays_in_the_answer(tmp_path: Path) -> None:
    row = one_row(tmp_path, {"text": "q", "category": "REFUND\u200b "})
    assert (row.response, row.slice) == ("REFUND\u200b ", "REFUND")


@pytest.mark.parametrize(
    ("value", "label"),
    [("true", "true"), ("false", "false"), ("3", "3"), ("1.0", "1.0"), ("-0.5", "-0.5"), ('"x"', "x")],
)
def test_a_label_is_the_text_that_json_has_for_it(tmp_path: Path, value: str, label: str) -> None:
    row = read(tmp_path, a__jsonl=f'{{"text": "q", "label": {value}}}').rows[0]
    assert (row.response, row.slice) == (label, label)


@pytest.mark.parametrize("value", ["12345678901234567890123", "-98765432109876543210", "1e3", "0.10", "1E400"])
@pytest.mark.parametrize("form", ['{{"text": "q", "label": {}}}', '[{{"text": "q", "label": {}}}]'])
def test_a_label_that_is_a_number_stays_as_it_is_written(tmp_path: Path, value: str, form: str) -> None:
    row = read(tmp_path, a__json=form.format(value)).rows[0]
    assert (row.response, row.slice) == (value, value)


def test_the_numbers_of_a_tool_stay_numbers(tmp_path: Path) -> None:
    tool = {"name": "f", "parameters": {"minimum": 0.5, "maximum": 12345678901234567890123.0}}
    row = one_row(tmp_path, {**chat("q", "a"), "tools": [tool]})
    assert Row.model_validate_json(row.model_dump_json()).tools[0]["function"] == tool


@pytest.mark.parametrize("value", [None, [], {"a": 1}])
def test_a_label_that_is_no_text_or_number_sets_the_row_aside(tmp_path: Path, value: object) -> None:
    reading = read(tmp_path, a__jsonl=lines({"text": "q", "label": "x"}, {"text": "r", "label": value}))
    assert reading.unreadable[0].reason.startswith("label: expected a string, got")


def test_a_category_may_be_a_truth_value(tmp_path: Path) -> None:
    assert one_row(tmp_path, {**chat("q", "a"), "category": True}).slice == "true"


def test_a_first_row_without_its_label_does_not_make_the_file_plain_text(tmp_path: Path) -> None:
    reading = read(tmp_path, a__jsonl=lines({"text": "q", "label": None}, {"text": "r", "label": "x"}))
    assert (reading.formats, len(reading.rows)) == ({"train/a.jsonl": "text and category"}, 1)


def test_columns_that_are_null_do_not_hide_the_format(tmp_path: Path) -> None:
    assert one_row(tmp_path, {"messages": None, "prompt": "q", "response": "a"}).prompt == "q"


def test_the_names_of_fields_are_read_in_any_case(tmp_path: Path) -> None:
    reading = read(tmp_path, a__jsonl=lines({"Prompt": "q", "Response ": "a"}))
    assert (reading.rows[0].prompt, notes(reading)) == ("q", ["train: the names of fields were read in lower case"])


@pytest.mark.parametrize(("weight", "expected"), [(2, 2.0), (0.25, 0.25), ("3", 3.0), (None, 1.0), ("", 1.0)])
def test_the_weight_of_a_row_is_kept(tmp_path: Path, weight: object, expected: float) -> None:
    assert one_row(tmp_path, {**chat("q", "a"), "weight": weight}).weight == expected


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        (0, "weight: is 0, so this row is not to be learnt"),
        (-1, "weight: expected a number above 0, at most 100, got -1"),
        (1000, "weight: expected a number above 0, at most 100, got 1000"),
        ("3 kg", "weight: expected a number above 0, at most 100, got '3 kg'"),
        (True, "weight: expected a number above 0, at most 100, got True"),
    ],
)
def test_a_weight_that_cannot_be_used_sets_the_row_aside(tmp_path: Path, weight: object, found: str) -> None:
    assert reason(tmp_path, {**chat("q", "a"), "weight": weight}) == found


@pytest.mark.parametrize("field", ["label", "kto_tag"])
@pytest.mark.parametrize("ratings", [(True, False), ("True", "False"), ("true", "false"), (1, 0), ("1", "0")])
def test_an_answer_that_is_rated_bad_sets_the_row_aside(tmp_path: Path, field: str, ratings: tuple[object]) -> None:
    good, bad = ({"prompt": "q", "completion": "a", field: rating} for rating in ratings)
    reading = read(tmp_path, a__jsonl=lines(good, bad))
    assert (len(reading.rows), reading.unreadable[0].line, len(reading.notices)) == (1, 2, 1)


@pytest.mark.parametrize("label", [0, 1])
def test_the_label_of_a_text_is_no_rating(tmp_path: Path, label: int) -> None:
    assert one_row(tmp_path, {"text": "q", "label": label}).response == str(label)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"chosen": "q a", "rejected": "q b"},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {}, "rejected": {}},
        {"history": [{"prompt": "q", "response": "a"}], "chosen": "a", "rejected": "b"},
    ],
)
def test_preference_pairs_are_refused_by_name(tmp_path: Path, record: object) -> None:
    with pytest.raises(BadInput, match=r"train/a\.jsonl:1 is a preference pair, .*give the chosen answer"):
        read(tmp_path, a__jsonl=lines(record))


def test_fields_that_are_not_used_are_counted_in_one_notice(tmp_path: Path) -> None:
    messages = [said("user", "q", mood="calm"), said("assistant", "a")]
    record = {"messages": messages, "difficulty": 3, "url": "x", "id": 7, "created_at": 5, "note": None}
    (found,) = read(tmp_path, a__jsonl=lines(record, {**record, "url": ""})).notices
    assert (found.rule, found.rows) == ("unused_fields", 2)
    assert found.text == (
        "fields of train that are not used: difficulty (2 rows), messages[].mood (2 rows), url (1 rows)"
    )


def test_a_flag_to_learn_a_user_turn_is_reported_as_not_used(tmp_path: Path) -> None:
    record = {"messages": [said("user", "q", train=True), said("assistant", "a", train=True)]}
    assert "messages[].train (1 rows)" in read(tmp_path, a__jsonl=lines(record)).notices[0].text


def test_the_error_about_an_unknown_format_names_the_file_the_line_and_the_known_formats(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train/a\.jsonl:1 has the fields foo, of no known format; known are .*alpaca"):
        read(tmp_path, a__jsonl='{"foo": 1}\n')


@pytest.mark.parametrize("content", ["", "\n\n", "text,category\n", "[]", "sep=;\n"])
def test_an_empty_dataset_is_named_with_what_was_expected(tmp_path: Path, content: str) -> None:
    expected = r"\(train\) holds no rows; expected JSON lines, a JSON array or CSV with a header, .*alpaca"
    with pytest.raises(BadInput, match=r"dataset support-2026 " + expected):
        read(tmp_path, a=content)


@pytest.mark.parametrize(
    ("name", "field"),
    [("train", "datasetId"), ("dev", "devDatasetId"), ("test", "testDatasetId"), ("pool", "poolDatasetId")],
)
def test_an_empty_dataset_is_named_as_the_request_names_it(tmp_path: Path, name: str, field: str) -> None:
    with pytest.raises(BadInput) as error:
        read(tmp_path, name, a__csv="text,category\n")
    assert error.value.field == field


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "readme.txt"])
def test_a_file_about_the_data_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("# A dataset\n")
    reading = read(tmp_path, a__jsonl=lines(chat("q", "a")))
    assert (len(reading.rows), reading.notices[0].places) == (1, (f"train/{name}",))


def test_an_upload_that_is_not_read_because_of_its_name_says_so(tmp_path: Path) -> None:
    (tmp_path / "license.txt").write_text("text,label\na,b\n")
    with pytest.raises(BadInput, match=r"holds no rows; .*; train/license\.txt was not read, because its name"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["license.jsonl", "README.json", "Licence.CSV"])
def test_a_file_with_the_ending_of_data_is_read_whatever_its_name_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("prompt,response\nq,a\n" if name.endswith("CSV") else lines({"text": "a"}))
    assert len(read(tmp_path).rows) == 1


@pytest.mark.parametrize("first", ["null", "broken", "text,category", "- a", "3"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.NDJSON"])
def test_a_file_of_json_lines_is_not_read_as_csv_if_its_first_line_is_broken(
    tmp_path: Path, name: str, first: str
) -> None:
    (tmp_path / name).write_text(f"{first}\n" + lines(chat("q", "a"), chat("r", "b")))
    reading = read(tmp_path)
    assert ([item.line for item in reading.unreadable], len(reading.rows)) == ([1], 2)


def test_only_the_training_rows_of_an_optimized_dataset_are_read(tmp_path: Path) -> None:
    row = read(tmp_path, train__jsonl=lines({"text": "a", "label": "b"})).rows[0]
    (tmp_path / "train.jsonl").write_text(row.model_dump_json())
    reading = read(tmp_path, ledger__jsonl='{"row": "x"}', report__json="{}")
    assert list(reading.formats) == ["train/train.jsonl"]
