"""`treadle check FILE`: what would happen to the rows, in a real child process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.models import TEMPLATE, save_tiny_model

CASES = Path(__file__).parents[1] / "data" / "cases"
NO_GREETING = "{% if messages[0].role == 'assistant' %}{{ raise_exception('a user speaks first') }}{% endif %}"

runner = CliRunner()


def check(*arguments: str | Path, status: int = 0) -> str:
    result = runner.invoke(app, ["check", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return " ".join(result.stdout.split())


def report(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(check(*arguments, "--json", status=status))
    return parsed


def test_counts_reasons_and_places_are_printed() -> None:
    printed = check(CASES / "80-where-do-the-lost-rows-show" / "train.jsonl")
    assert "16 rows to train on, 2 dev, 2 test" in printed and "20 unreadable" in printed
    assert "could not be read and were set aside" in printed and "train/train.jsonl:" in printed


def test_rows_that_are_set_aside_are_listed_with_their_reasons() -> None:
    found = report(CASES / "80-where-do-the-lost-rows-show" / "train.jsonl")["setAside"]
    assert len(found) == 20 and all(row["reason"] and row["rule"] == "unreadable" for row in found)


def test_what_would_fail_a_task_is_said_with_the_fix_and_a_status() -> None:
    printed = check(CASES / "03-cp1252-half-lost" / "train.csv", status=1)
    assert "A task with these rows would fail" in printed and "iconv -f WINDOWS-1252" in printed


def test_given_dev_and_test_rows_are_used_and_nothing_is_split_off() -> None:
    case = CASES / "38-many-right-answers"
    found = report(case / "train.jsonl", "--dev", case / "dev.jsonl", "--test", case / "test.jsonl")
    assert (found["kept"], found["dev"], found["test"]) == (32, 4, 4)


def test_the_guess_about_the_answers_can_be_overridden() -> None:
    case = CASES / "38-many-right-answers"
    given = ("--dev", case / "dev.jsonl", "--test", case / "test.jsonl")
    assert report(case / "train.jsonl", *given, "--answers", "labels")["rules"]["label_conflict"] == 12


def test_a_rule_that_takes_more_rows_than_allowed_is_a_problem() -> None:
    case = CASES / "38-many-right-answers"
    given = ("--dev", case / "dev.jsonl", "--test", case / "test.jsonl", "--answers", "labels", "--max-loss", "0.3")
    found = report(case / "train.jsonl", *given, status=1)
    assert found["field"] == "maxLoss" and "label_conflict would remove 12 of 32 rows" in found["problem"]


def test_labels_are_written_in_one_spelling_on_request() -> None:
    found = report(CASES / "34-label-spelling" / "train.csv", "--merge-spellings")
    assert found["rules"]["merged_spelling"] and not any(n["rule"] == "spellings" for n in found["notices"])


def test_texts_are_tidied_on_request(tmp_path: Path) -> None:
    questions = [{"prompt": f"Where  is my {chr(97 + n)} card?", "completion": f"It is at {n}."} for n in range(26)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, questions)))
    assert report(tmp_path / "rows.jsonl", "--tidy")["rules"]["tidied"]


def test_rows_that_the_template_of_a_model_refuses_are_counted(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", template=NO_GREETING + TEMPLATE)
    case = CASES / "82-assistant-speaks-first"
    given = ("--dev", case / "dev.jsonl", "--test", case / "test.jsonl")
    notices = report(case / "train.jsonl", *given, "--model", model)["notices"]
    (refused,) = [notice for notice in notices if notice["rule"] == "refused_by_template"]
    assert refused["rows"] == 1 and "a user speaks first" in refused["text"] and refused["places"]


@pytest.mark.parametrize("model", ["/no/such/folder", "no-such-folder"])
def test_a_model_that_is_not_there_is_named(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = report(CASES / "34-label-spelling" / "train.csv", "--model", model, status=1)
    assert found["field"] == "model" and model in found["problem"]
