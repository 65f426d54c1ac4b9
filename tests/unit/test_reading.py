from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from infra.errors import BadInput
from optimizer_worker.reading.containers import records
from optimizer_worker.reading.dataset import ReadResult, read_dataset

DATA = Path(__file__).parent.parent / "data"


def read(folder: Path, name: str = "train", **files: str | bytes) -> ReadResult:
    for file, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / file.replace("__", ".")).write_bytes(data)
    return read_dataset(folder, name, "support-2026")


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


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


def test_openai_messages_keep_their_roles(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello"},
    ]
    (row,) = read(tmp_path, a__jsonl=lines({"messages": messages})).rows
    assert [(t.role, t.content) for t in row.turns] == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")]


def test_alpaca_joins_instruction_and_input_after_system_and_history(tmp_path: Path) -> None:
    record = {"instruction": "Add", "input": "1 2", "output": "3", "system": "S", "history": [["a", "b"]]}
    (row,) = read(tmp_path, a__json=json.dumps([record])).rows
    assert [t.content for t in row.turns] == ["S", "a", "b", "Add\n1 2", "3"]


def test_a_category_is_the_answer_and_the_slice(tmp_path: Path) -> None:
    (row,) = read(tmp_path, a__csv="text,category\nwhere is my card?,card_arrival\n").rows
    assert (row.prompt, row.response, row.slice) == ("where is my card?", "card_arrival", "card_arrival")


def test_plain_text_has_no_turns(tmp_path: Path) -> None:
    (row,) = read(tmp_path, a__jsonl=lines({"text": "once upon a time"})).rows
    assert (row.text, row.turns) == ("once upon a time", ())


def test_canonical_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    (row,) = read(tmp_path, a__jsonl=lines({"text": "once", "slice": "tales"})).rows
    (again,) = read(tmp_path, a__jsonl=row.model_dump_json()).rows
    assert again == row


@pytest.mark.parametrize("content", [b"\xef\xbb\xbftext,category\na,b\n", b'\xef\xbb\xbf{"text": "a", "label": "b"}'])
def test_a_byte_order_mark_is_tolerated(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, a=content).rows[0].prompt == "a"


def test_a_quoted_field_may_span_lines_and_ids_count_lines(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv='text,category\n"one\ntwo",x\nthree,y\n')
    assert [row.id for row in reading.rows] == ["train/a.csv:2", "train/a.csv:4"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"text": "x", ', "not JSON"),
        ("[1, 2]", "expected an object, got list"),
        ('{"other": 1}', "expected the fields of text and category"),
        ('{"text": 5, "category": "c"}', "text: expected a string, got int"),
        ('{"text": "\udc80", "category": "c"}', "not JSON"),
    ],
)
def test_a_bad_line_is_quarantined_with_its_place_and_reason(tmp_path: Path, bad: str, reason: str) -> None:
    good = lines({"text": "a", "category": "b"})
    reading = read(tmp_path, a__jsonl=(good + bad + "\n" + good).encode("utf-8", "surrogateescape"))
    (item,) = reading.unreadable
    assert (item.file, item.line, len(reading.rows)) == ("train/a.jsonl", 2, 2)
    assert reason in item.reason


def test_an_unanswered_conversation_is_reported_as_such(tmp_path: Path) -> None:
    answered = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    reading = read(tmp_path, a__jsonl=lines(answered, {"messages": [{"role": "user", "content": "a"}]}))
    assert "expected the assistant's answer at the end" in reading.unreadable[0].reason


def test_csv_goes_on_after_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv='text,category\na,x\n"b,y\nc,z\n')
    assert [row.prompt for row in reading.rows] == ["a", "c"]
    assert [(item.line, "not CSV" in item.reason) for item in reading.unreadable] == [(3, True)]


def test_a_csv_row_with_a_field_too_many_is_quarantined(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv="text,category\na,x\nb,y,z\n")
    assert reading.unreadable[0].reason == "expected 2 fields, got 3"


def test_csv_bytes_that_are_not_utf_8_cost_one_row(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv=b"text,category\ncaf\xe9,x\nb,y\n")
    assert ([row.prompt for row in reading.rows], reading.unreadable[0].reason) == (["b"], "not UTF-8")


def test_a_csv_line_both_mis_quoted_and_not_utf_8_can_be_written_to_the_quarantine(tmp_path: Path) -> None:
    reading = read(tmp_path, a__csv=b"text,category\n" + b"a,b\n" * 20 + b'"caf\xe9" x,lab\n')
    (item,) = reading.unreadable
    assert len(reading.rows) == 20 and '"caf\N{REPLACEMENT CHARACTER}\\" x,lab"' in item.model_dump_json()


@pytest.mark.parametrize("content", ["text,catégorie\na,b\n".encode("latin-1"), b"\x89PNG\r\n\x1a\n\x00\xff,\xfe\n"])
def test_a_csv_header_that_is_not_utf_8_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadInput, match=r"train/a\.csv:1 is not UTF-8; expected UTF-8") as error:
        read(tmp_path, a__csv=content)
    assert error.value.field == "train/a.csv:1"


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_line_ends_end_a_csv_row(tmp_path: Path, sign: str) -> None:
    reading = read(tmp_path, a__csv=f"text,category\r\nbefore{sign}after,lab\r\nb,y\r\n")
    assert ([row.prompt for row in reading.rows], reading.unreadable) == ([f"before{sign}after", "b"], [])


def test_every_one_of_many_mis_quoted_lines_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,category\n" + '"a" x,b\n' * 10_000)
    assert sum(record.problem != "" for record in records(tmp_path / "a.csv", "a.csv")) == 10_000


def test_the_error_about_an_unknown_format_names_the_file_the_line_and_the_known_formats(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train/a\.jsonl:1 has the fields foo, of no known format; known are .*alpaca"):
        read(tmp_path, a__jsonl='{"foo": 1}\n')


def test_an_array_that_breaks_off_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train/a\.json:2 is not JSON"):
        read(tmp_path, a__json='[{"text": "a"},\n{"text": ')


@pytest.mark.parametrize("content", ["", "\n\n", "text,category\n", "[]"])
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


def test_utf_16_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"UTF-16; expected UTF-8"):
        read(tmp_path, a="text,category\na,b\n".encode("utf-16"))


def test_nothing_of_an_unreadable_test_line_is_kept(tmp_path: Path) -> None:
    reading = read(tmp_path, "test", a__jsonl=lines({"text": "a", "label": "b"}) + '{"text": "secret"}\n')
    assert "secret" not in reading.unreadable[0].model_dump_json()


def test_only_the_training_rows_of_an_optimized_dataset_are_read(tmp_path: Path) -> None:
    row = read(tmp_path, train__jsonl=lines({"text": "a", "label": "b"})).rows[0]
    (tmp_path / "train.jsonl").write_text(row.model_dump_json())
    reading = read(tmp_path, ledger__jsonl='{"row": "x"}', report__json="{}")
    assert list(reading.formats) == ["train/train.jsonl"]
