"""The optimizer's program in a folder: the first iteration from uploads, and the next from a dev report."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contracts.options import OptimizationOptions
from contracts.rows import Row
from infra.child import program
from optimizer_worker.programs import optimize
from optimizer_worker.spec import Result, Spec
from tests.examples import report
from tests.examples import row as example

BANKING = Path(__file__).parents[2] / "examples" / "banking77"
INTENTS = ("card_arrival", "exchange_rate", "pin_blocked", "lost_or_stolen_phone", "age_limit", "top_up_limits")
Pair = tuple[str, str]


def questions(file: str, each: int, start: int = 0) -> list[Pair]:
    """`each` real questions of every intent, from number `start` on."""
    with (BANKING / file).open(encoding="utf-8") as lines:
        pairs = [(record["text"], record["category"]) for record in csv.DictReader(lines)]
    return [pair for intent in INTENTS for pair in [p for p in pairs if p[1] == intent][start : start + each]]


def dirty_rows() -> list[Pair]:
    """Ten questions of each intent; of all, two are duplicated and three have a wrong label."""
    rows = questions("train.csv", 10)
    wrong = [(rows[index][0], INTENTS[(index // 10 + 3) % 6]) for index in (5, 25, 45)]
    return [pair for pair in rows if pair[0] not in {text for text, _ in wrong}] + wrong + rows[:2]


def upload(folder: Path, name: str, pairs: list[Pair]) -> None:
    (folder / "input" / name).mkdir(parents=True)
    with (folder / "input" / name / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "category"), *pairs])


def run_optimize(folder: Path, iteration: int = 1, **options: Any) -> Result | dict[str, Any]:
    """Run the program and return its result, or the content of `error.json`."""
    inputs = sorted(path.name for path in (folder / "input").iterdir())
    given = {} if "current" in inputs else {name: f"{name}-set" for name in inputs}
    spec = Spec(iteration=iteration, options=OptimizationOptions(**options), seed=1, datasets=given)
    (folder / "spec.json").write_text(spec.model_dump_json())
    if program.run(optimize.__name__, folder, optimize) == 0:  # type: ignore[arg-type]
        return Result.model_validate_json((folder / "result.json").read_bytes())
    failed: dict[str, Any] = json.loads((folder / "error.json").read_bytes())
    return failed


def result(folder: Path, iteration: int = 1, **options: Any) -> Result:
    outcome = run_optimize(folder, iteration, **options)
    assert isinstance(outcome, Result), outcome
    return outcome


def rows(path: Path) -> list[Row]:
    return [Row.model_validate_json(line) for line in path.read_bytes().splitlines()]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    upload(folder, "train", dirty_rows())
    upload(folder, "dev", questions("train.csv", 15, 30))
    upload(folder, "test", questions("test.csv", 20))
    upload(folder, "pool", questions("train.csv", 25, 50))
    result(folder)
    return folder


@pytest.fixture
def second(first: Path, tmp_path: Path) -> Path:
    """A folder for iteration 2, with a report in which two intents fail."""
    shutil.copytree(first / "out", tmp_path / "input" / "current")
    shutil.copytree(first / "out" / "splits", tmp_path / "input" / "splits")
    dev = rows(first / "out" / "splits" / "dev.jsonl")
    bad = [row for row in dev if row.slice in INTENTS[:2]]
    (tmp_path / "input" / "report").mkdir()
    slices = {name: (0.2 if name in INTENTS[:2] else 1.0, 15) for name in INTENTS}
    (tmp_path / "input" / "report" / "dev_report.json").write_text(report(bad, slices).model_dump_json())
    return tmp_path


def test_every_row_is_accounted_for(first: Path) -> None:
    decisions = Counter(
        line["row"] for line in lines(first / "out" / "ledger.jsonl") if line["row"].startswith("train/")
    )
    kept = {row.id for row in rows(first / "out" / "train.jsonl")}
    removed = {
        line["row"] for line in lines(first / "out" / "ledger.jsonl") if line["action"] in ("dropped", "quarantined")
    }
    assert len(decisions) == len(dirty_rows()) and kept | {row for row in removed if row in decisions} == set(decisions)


def test_the_exact_duplicates_are_dropped_with_their_parents(first: Path) -> None:
    dropped = [line for line in lines(first / "out" / "ledger.jsonl") if line["rule"] == "exact_duplicate"]
    assert len(dropped) == 2 and all(line["parent"] for line in dropped)


def test_rows_with_a_wrong_label_are_quarantined_with_a_reason(first: Path) -> None:
    wrong = {text for text, _ in dirty_rows()[57:60]}
    quarantined = [item for item in lines(first / "out" / "quarantine.jsonl") if item["rule"] == "wrong_label"]
    assert wrong & {item["row"]["turns"][0]["content"] for item in quarantined if item["reason"]}


def test_the_canonical_splits_are_written(first: Path) -> None:
    splits = first / "out" / "splits"
    assert [len(rows(splits / f"{name}.jsonl")) for name in ("dev", "test", "pool")] == [
        84,
        120,
        150,
    ]  # 6 of 90 dev rows are near-duplicates


def test_no_test_row_is_named_outside_the_split(first: Path) -> None:
    others = [path for path in (first / "out").iterdir() if path.is_file()]
    assert others and not any(b"test/rows.csv:" in path.read_bytes() for path in others)


def test_no_test_row_split_off_the_upload_is_named_outside_the_split(tmp_path: Path) -> None:
    untidy = [(f"  {text} \u200b", intent) for text, intent in questions("train.csv", 20)]
    upload(tmp_path, "train", untidy)
    result(tmp_path, tidy=True)
    sealed = {row.id for row in rows(tmp_path / "out" / "splits" / "test.jsonl")}
    files = ("ledger.jsonl", "quarantine.jsonl", "report.json")
    content = b"".join((tmp_path / "out" / name).read_bytes() for name in files)
    assert b'"rewritten"' in content and sealed and not any(f'"{row_id}"'.encode() in content for row_id in sealed)


def test_unreadable_lines_are_in_the_ledger_the_quarantine_the_report_and_the_result(tmp_path: Path) -> None:
    upload(tmp_path, "train", questions("train.csv", 10))
    upload(tmp_path, "test", questions("test.csv", 5))
    for name in ("train", "test"):
        with (tmp_path / "input" / name / "rows.csv").open("a") as file:
            file.write("one,two,three\n" * 2)
    done, out = result(tmp_path), tmp_path / "out"
    ledger = [line["row"] for line in lines(out / "ledger.jsonl") if line["rule"] == "unreadable"]
    places = [
        (item["file"], item["content"]) for item in lines(out / "quarantine.jsonl") if item["rule"] == "unreadable"
    ]
    assert ledger == ["train/rows.csv:62", "train/rows.csv:63"]
    assert places == [("train/rows.csv", "one,two,three")] * 2 + [("test/rows.csv", None)] * 2
    assert (done.actions["unreadable"], done.actions["test_unreadable"]) == (2, 2)
    assert [notice.rows for notice in done.notices if notice.rule == "unreadable"] == [2, 2]
    assert json.loads((out / "report.json").read_bytes())["notices"] == [
        n.model_dump(mode="json") for n in done.notices
    ]


def test_lines_that_are_not_to_be_learnt_are_in_the_ledger_and_the_quarantine_by_their_rule(tmp_path: Path) -> None:
    upload(tmp_path, "train", questions("train.csv", 10))
    records = [{"prompt": "q", "completion": "a", "label": label} for label in (True, False)]
    (tmp_path / "input" / "train" / "more.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    done, out = result(tmp_path), tmp_path / "out"
    found = [line["row"] for line in lines(out / "ledger.jsonl") if line["rule"] == "not_learnt"]
    assert found == ["train/more.jsonl:2"] and done.actions["not_learnt"] == 1
    assert [item["line"] for item in lines(out / "quarantine.jsonl") if item["rule"] == "not_learnt"] == [2]


def test_too_few_rows_to_split_name_the_lines_that_could_not_be_read(tmp_path: Path) -> None:
    upload(tmp_path, "train", [("only", "one"), ("row", "two")])
    with (tmp_path / "input" / "train" / "rows.csv").open("a") as file:
        file.write("a,b,c\n" * 2)
    failed = run_optimize(tmp_path)
    assert isinstance(failed, dict) and failed["failure"] == "bad_input"
    assert "; 2 lines were set aside, the first of which is train/rows.csv:4: expected 2 fields" in failed["message"]


def test_texts_are_written_as_they_were_uploaded(tmp_path: Path) -> None:
    bodies = [(f"def half_{name}(x):\n", f"    return x / 2  # {name} \n") for name in INTENTS * 5]
    (tmp_path / "input" / "train").mkdir(parents=True)
    text = "".join(json.dumps({"prompt": prompt, "completion": body}) + "\n" for prompt, body in bodies)
    (tmp_path / "input" / "train" / "rows.jsonl").write_text(text)
    result(tmp_path)
    assert {(row.prompt, row.response) for row in rows(tmp_path / "out" / "train.jsonl")} <= set(bodies)


def test_a_dev_row_that_is_a_near_copy_of_a_test_row_is_dropped(tmp_path: Path) -> None:
    test = ("Could you tell me how I can activate my new card today?", "activate")
    upload(tmp_path, "train", questions("train.csv", 5))
    copy = ("Could you tell me how I can activate my card today?", "activate")
    upload(tmp_path, "dev", [*questions("train.csv", 2, 30), copy])
    upload(tmp_path, "test", [test])
    done = result(tmp_path)
    dev = rows(tmp_path / "out" / "splits" / "dev.jsonl")
    assert done.actions["dev_in_test"] == 1 and len(dev) == 12


def test_a_dev_set_that_repeats_test_is_refused(tmp_path: Path) -> None:
    for name, file in (("train", "train.csv"), ("dev", "test.csv"), ("test", "test.csv")):
        upload(tmp_path, name, questions(file, 3))
    failed = run_optimize(tmp_path)
    assert isinstance(failed, dict) and (failed["failure"], failed["field"]) == ("bad_input", "devDatasetId")


def test_the_report_counts_the_rows_of_each_slice(first: Path) -> None:
    written = json.loads((first / "out" / "report.json").read_bytes())
    counted = Counter(row.slice for row in rows(first / "out" / "train.jsonl"))
    assert {part["name"]: part["rows"] for part in written["slices"]} == counted


def test_rows_are_drawn_toward_the_weak_slices(second: Path) -> None:
    done = result(second, 2, label_budget=12)
    drawn = {line["id"] for line in lines(second / "out" / "drawn.jsonl")}
    hits = [row for row in rows(second / "out" / "train.jsonl") if row.id in drawn and row.slice in INTENTS[:2]]
    assert done.labels == len(drawn) == 12 and len(hits) >= 10


def test_a_drawn_row_names_its_bad_case_as_its_parent(second: Path) -> None:
    result(second, 2, label_budget=5)
    added = [line for line in lines(second / "out" / "ledger.jsonl") if line["action"] == "added"]
    dev = {row.id for row in rows(second / "input" / "splits" / "dev.jsonl")}
    assert len(added) == 5 and {line["parent"] for line in added} <= dev


def test_a_row_is_drawn_at_most_once_in_a_task(second: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    result(second, 2, label_budget=40)
    third = tmp_path_factory.mktemp("third")
    shutil.copytree(second / "input", third / "input", ignore=shutil.ignore_patterns("current"))
    shutil.copytree(second / "out", third / "input" / "current")
    done = result(third, 3, label_budget=40)
    drawn = [line["id"] for line in lines(third / "out" / "drawn.jsonl")]
    assert len(drawn) == len(set(drawn)) == 40 + done.labels


def test_rows_of_weak_slices_have_larger_weights(second: Path) -> None:
    result(second, 2, label_budget=0)
    weights = {row.slice: row.slice_weight for row in rows(second / "out" / "train.jsonl")}
    assert weights[INTENTS[0]] > 1 > weights[INTENTS[2]]


@pytest.mark.parametrize(("arm", "labels"), [("random", 12), ("none", 0)])
def test_the_other_arms_draw_as_many_at_random_or_none(second: Path, arm: str, labels: int) -> None:
    done = result(second, 2, arm=arm, label_budget=12)
    assert (done.labels, done.actions.get(f"added_{arm}", 0)) == (labels, labels)


def test_the_answers_of_the_pool_do_not_decide_what_is_drawn(second: Path) -> None:
    result(second, 2, label_budget=12)
    drawn = (second / "out" / "drawn.jsonl").read_bytes()
    pool = second / "input" / "splits" / "pool.jsonl"
    without_answers = [example(row.prompt, "?", row.id) for row in rows(pool)]
    write(pool, without_answers)
    result(second, 2, label_budget=12)
    assert (second / "out" / "drawn.jsonl").read_bytes() == drawn


def test_a_copy_of_a_dev_row_is_never_drawn(second: Path) -> None:
    dev, pool = rows(second / "input" / "splits" / "dev.jsonl"), second / "input" / "splits" / "pool.jsonl"
    copies = [row.model_copy(update={"id": f"pool/copy:{n}"}) for n, row in enumerate(dev)]
    write(pool, [*rows(pool), *copies])
    result(second, 2, label_budget=60)
    assert not any(line["id"].startswith("pool/copy") for line in lines(second / "out" / "drawn.jsonl"))


def write(path: Path, items: list[Row]) -> None:
    path.write_text("".join(item.model_dump_json() + "\n" for item in items))


def test_the_same_seed_gives_the_same_bytes(second: Path) -> None:
    result(second, 2, label_budget=12)
    before = {path.name: path.read_bytes() for path in (second / "out").iterdir()}
    result(second, 2, label_budget=12)
    assert {path.name: path.read_bytes() for path in (second / "out").iterdir()} == before


def test_a_dataset_without_others_is_split(tmp_path: Path) -> None:
    upload(tmp_path, "train", questions("train.csv", 20))
    done = result(tmp_path)
    counts = {name: len(rows(tmp_path / "out" / "splits" / f"{name}.jsonl")) for name in ("dev", "test")}
    assert done.has_splits and counts == {"dev": 12, "test": 12} and done.rows <= 96


def test_plain_text_is_cleaned_and_split(tmp_path: Path) -> None:
    (tmp_path / "input" / "train").mkdir(parents=True)
    texts = [text for text, _ in questions("train.csv", 10)]
    content = "".join(json.dumps({"text": text}) + "\n" for text in [*texts, texts[0], " "])
    (tmp_path / "input" / "train" / "raw.jsonl").write_text(content)
    done = result(tmp_path)
    assert done.actions["empty_prompt"] == 1 and all(row.text for row in rows(tmp_path / "out" / "train.jsonl"))


def test_an_unknown_format_fails_as_bad_input_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "input" / "train").mkdir(parents=True)
    (tmp_path / "input" / "train" / "a.jsonl").write_text('{"foo": 1}\n')
    failed = run_optimize(tmp_path)
    assert isinstance(failed, dict) and (failed["failure"], failed["field"]) == ("bad_input", "train/a.jsonl:1")


def test_rows_that_are_all_in_test_leave_nothing_to_train_on_and_the_rules_are_counted(tmp_path: Path) -> None:
    upload(tmp_path, "train", questions("test.csv", 3))
    upload(tmp_path, "test", questions("test.csv", 3))
    upload(tmp_path, "dev", questions("train.csv", 3))
    failed = run_optimize(tmp_path, max_loss=1.0)
    assert isinstance(failed, dict) and failed["field"] == "datasetId"
    assert "no rows are left to train on; rows touched by each rule: contaminated 18," in failed["message"]


def test_a_rule_that_would_remove_most_rows_stops_the_phase(tmp_path: Path) -> None:
    upload(tmp_path, "train", questions("test.csv", 3))
    upload(tmp_path, "test", questions("test.csv", 2))
    upload(tmp_path, "dev", questions("train.csv", 3))
    failed = run_optimize(tmp_path)
    assert isinstance(failed, dict) and (failed["failure"], failed["field"]) == ("bad_input", "maxLoss")
    assert "the rule contaminated would remove 12 of 18 rows" in failed["message"]


@pytest.mark.parametrize(
    ("name", "field"),
    [("train", "datasetId"), ("dev", "devDatasetId"), ("test", "testDatasetId"), ("pool", "poolDatasetId")],
)
def test_a_dataset_of_empty_rows_is_named_as_the_request_names_it(tmp_path: Path, name: str, field: str) -> None:
    for each in ("train", name):
        shutil.rmtree(tmp_path / "input" / each, ignore_errors=True)
        upload(tmp_path, each, [(" ", "a")] if each == name else [("a", "b")])
    failed = run_optimize(tmp_path)
    assert isinstance(failed, dict) and (failed["failure"], failed["field"]) == ("bad_input", field)


def test_too_few_rows_to_split_are_refused_as_the_datasets_fault(tmp_path: Path) -> None:
    upload(tmp_path, "train", [("where is my card?", "card_arrival")])
    failed = run_optimize(tmp_path)
    assert isinstance(failed, dict) and (failed["failure"], failed["field"]) == ("bad_input", "datasetId")
