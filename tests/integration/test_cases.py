"""The optimizer reads the files in `tests/data/cases/`, which are as people have them, as each test says.

Those about models and requests are in test_chat_format.py, test_train_program.py, test_evaluate_program.py,
test_saved_models.py and test_gateway.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from contracts.rows import Row
from infra.child import program
from optimizer_worker.programs import optimize
from optimizer_worker.spec import Result, Spec

CASES = Path(__file__).parents[1] / "data" / "cases"


class Case:
    """The output of the optimizer for one case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        result, error = folder / "result.json", folder / "error.json"
        self.failed: dict[str, Any] | None = json.loads(error.read_bytes()) if error.exists() else None
        self.result = None if self.failed else Result.model_validate_json(result.read_bytes())

    @property
    def rows(self) -> list[Row]:
        """All rows that are kept: for training and, if they were split off, for dev and test."""
        names = ("train.jsonl", *(() if self.has("dev") else ("splits/dev.jsonl",)))
        names = (*names, *(() if self.has("test") else ("splits/test.jsonl",)))
        return [Row.model_validate_json(line) for name in names for line in (self.out / name).read_bytes().splitlines()]

    @property
    def out(self) -> Path:
        assert self.failed is None, self.failed
        return self.folder / "out"

    @property
    def notices(self) -> str:
        assert self.result is not None
        return "\n".join(f"{n.rule} {n.rows} {n.text} {' '.join(n.places)}" for n in self.result.notices)

    def has(self, dataset: str) -> bool:
        return (self.folder / "input" / dataset).exists()


def optimized(folder: Path, case: str) -> Case:
    source = CASES / case
    for name in ("train", "dev", "test"):
        for file in source.glob(f"{name}.*"):
            (folder / "input" / name).mkdir(parents=True)
            shutil.copy(file, folder / "input" / name)
    datasets = {path.name: path.name for path in (folder / "input").iterdir()}
    (folder / "spec.json").write_text(Spec(iteration=1, options={}, seed=1, datasets=datasets).model_dump_json())  # type: ignore[arg-type]
    program.run(optimize.__name__, folder, optimize)  # type: ignore[arg-type]
    return Case(folder)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    return lambda case: optimized(tmp_path, case)


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        ("31-emoji-alone-differ", 16),
        ("33-vowel-signs", 7),
        ("34-label-spelling", 60),
        ("35-code-indentation", 20),
        ("38-many-right-answers", 32),
        ("84-long-shared-instruction/alpaca", 60),
        ("84-long-shared-instruction/system", 60),
        ("84-long-shared-instruction/free-answers", 20),
    ],
)
def test_rows_that_differ_are_all_kept(run: Any, case: str, rows: int) -> None:
    assert len(run(case).rows) == rows


def test_spellings_of_a_label_are_reported_together(run: Any) -> None:
    notices = run("34-label-spelling").notices
    assert "'refund'" in notices and "'REFUND '" in notices and "label_spelling" in notices


def test_the_indentation_of_an_answer_stays(run: Any) -> None:
    sources = [json.loads(line) for line in (CASES / "35-code-indentation" / "train.jsonl").read_text().splitlines()]
    expected = {record.get("response") or record["completion"] for record in sources}
    assert {row.response for row in run("35-code-indentation").rows} == expected


def test_several_answers_to_a_prompt_are_reported_as_text(run: Any) -> None:
    assert "The answers look like text" in run("38-many-right-answers").notices


def test_the_delimiter_of_a_sep_line_is_used_and_noted(run: Any) -> None:
    case = run("02-excel-sep-line")
    written = [line.split(";") for line in (CASES / "02-excel-sep-line" / "train.csv").read_text().splitlines()[2:]]
    assert {(row.prompt, row.response) for row in case.rows} == {(text, label) for text, label in written}
    assert "sep=" in case.notices


def test_a_file_in_another_encoding_is_named(run: Any) -> None:
    failed = run("03-cp1252-half-lost").failed
    assert failed is not None and failed["failure"] == "bad_input" and "Windows-1252" in failed["message"]


@pytest.mark.parametrize("form", ["array", "lines"])
def test_nan_counts_as_missing(run: Any, form: str) -> None:
    case = run(f"06-nan-from-pandas/{form}")
    assert case.rows and "NaN" in case.notices


def test_lines_that_end_in_commas_are_read(run: Any) -> None:
    case = run("09-commas-between-lines")
    assert len(case.rows) == 20 and "comma" in case.notices


def test_a_tool_call_beside_text_is_kept(run: Any) -> None:
    assert all(row.turns[-1].tool_calls and row.turns[-1].content for row in run("20-text-beside-tool-calls").rows)


@pytest.mark.parametrize("case", ["21-weight-zero", "21-weight-zero/train-flag"])
def test_a_turn_that_must_not_be_learnt_is_marked(run: Any, case: str) -> None:
    rows = run(case).rows
    assert rows and all(any(not t.learn for t in row.turns if t.role == "assistant") for row in rows)


def test_half_a_file_of_unreadable_lines_is_reported_with_places(run: Any) -> None:
    case = run("80-where-do-the-lost-rows-show")
    assert "unreadable 20" in case.notices and "train/train.jsonl:" in case.notices
    ledger = [json.loads(line) for line in (case.out / "ledger.jsonl").read_bytes().splitlines()]
    assert sum(line["rule"] == "unreadable" and bool(line["reason"]) for line in ledger) == 20
