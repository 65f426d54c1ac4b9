from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from cli.demo.banking77 import SOURCE, Banking77, Question, Uploads, draw, loop, normalized, pretraining, write
from contracts.http import ContinuousTaskRequest, StandardTaskRequest
from contracts.options import Arm, Stage


@pytest.fixture(scope="module")
def data() -> Banking77:
    return draw(seed=1)


def _keys(questions: tuple[Question, ...]) -> set[str]:
    return {normalized(text) for text, _ in questions}


def test_the_sizes_are_those_that_the_demo_describes(data: Banking77) -> None:
    sizes = [len(rows) for rows in (data.start, data.pool, data.dev, data.test)]
    assert sizes == [280, 2000, 300, 800]


def test_no_question_of_one_split_is_in_another(data: Banking77) -> None:
    start, pool, dev, test = map(_keys, (data.start, data.pool, data.dev, data.test))
    shared = [start & pool, start & dev, pool & dev, test & start, test & pool, test & dev]
    assert shared == [set()] * 6


def test_tokenizer_and_pretraining_use_neither_dev_nor_test(data: Banking77) -> None:
    seen = {normalized(text) for text in data.texts}
    assert not seen & (_keys(data.dev) | _keys(data.test) | {normalized(text) for text in data.dev_texts})


def test_the_sealed_rows_are_those_of_the_test_file_untouched(data: Banking77) -> None:
    with (SOURCE / "test.csv").open(newline="") as lines:
        rows = {(row["text"].strip(), row["category"].replace("_", " ")) for row in csv.DictReader(lines)}
    assert set(data.test) <= rows


def test_dev_and_test_hold_as_many_rows_of_each_of_twenty_intents(data: Banking77) -> None:
    for rows, each in ((data.dev, 15), (data.test, 40)):
        assert set(Counter(category for _, category in rows).values()) == {each}
        assert len({category for _, category in rows}) == 20


def test_six_intents_are_almost_missing_from_the_start(data: Banking77) -> None:
    counts = Counter(category for _, category in data.start)
    assert sum(count <= 4 for count in counts.values()) == 6


def test_the_start_holds_wrong_labels_and_repeated_rows(data: Banking77) -> None:
    with (SOURCE / "train.csv").open(newline="") as lines:
        true = {normalized(row["text"]): row["category"].replace("_", " ") for row in csv.DictReader(lines)}
    distinct = {normalized(text): category for text, category in data.start}
    assert len(data.start) - len(distinct) == 78
    assert sum(true[key] != category for key, category in distinct.items()) == 40


def test_the_seed_alone_decides_the_rows() -> None:
    assert draw(seed=2) == draw(seed=2)
    assert draw(seed=2) != draw(seed=3)


def test_the_upload_files_contain_the_drawn_rows(data: Banking77, tmp_path: Path) -> None:
    uploads = write(data, tmp_path)
    with uploads.dev.open(newline="") as lines:
        assert tuple((row["text"], row["category"]) for row in csv.DictReader(lines)) == data.dev
    assert tuple(json.loads(line)["text"] for line in uploads.texts.read_text().splitlines()) == data.texts


def test_the_bodies_of_both_tasks_are_what_the_gateway_takes() -> None:
    ids = {name: name for name in Uploads.__dataclass_fields__}
    first = StandardTaskRequest.model_validate(pretraining(Path("/base"), ids, seed=3))
    second = ContinuousTaskRequest.model_validate(loop("task:1", ids, "random", seed=3))
    assert (first.hyperparameters.stage, first.model_name, first.dataset_id) == (Stage.PT, "/base", "texts")
    assert (second.optimization.arm, second.optimization.label_budget, second.max_iterations) == (Arm.RANDOM, 120, 5)
