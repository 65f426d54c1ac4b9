"""The demo's data: BANKING77 with wrong labels, duplicates and rare intents, like the data of a real user.

All rows are drawn from `examples/banking77` with one seed. The sealed test rows come from `test.csv` only, and rows of
`train.csv` that repeat one of them are left out. The tokenizer and the pretraining use neither test nor dev rows.
"""

from __future__ import annotations

import csv
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

SOURCE = Path(__file__).parents[2] / "examples" / "banking77"
INTENTS = frozenset(
    {
        "Refund not showing up",
        "activate my card",
        "beneficiary not allowed",
        "cancel transfer",
        "card about to expire",
        "card arrival",
        "card linking",
        "card payment fee charged",
        "change pin",
        "country support",
        "declined cash withdrawal",
        "direct debit payment not recognised",
        "failed transfer",
        "pending top up",
        "request refund",
        "top up failed",
        "transaction charged twice",
        "transfer timing",
        "visa or mastercard",
        "wrong amount of cash received",
    }
)
"""Twenty frequent intents; some are easily confused with each other."""
USER = 1
RARE_INTENTS, RARE_ROWS = 6, 1
"""Number of intents that are rare in the start set, and rows of each."""
COMMON_ROWS = 14
WRONG_LABELS, DUPLICATES = 40, 78
POOL_ROWS = 2000
DEV_ROWS = 15
"""Rows of each intent; the test set has 40."""
PRETRAINING_DEV_ROWS = 300

LABEL_BUDGET, ITERATIONS = 120, 5
PRETRAINING = {
    "stage": "pt",
    "method": "full",
    "learningRate": 3e-3,
    "maxSteps": 700,
    "tokensPerBatch": 1024,
    "maxLength": 128,
    "warmupRatio": 0.05,
    "checkpointEvery": 500,
}
"""Hyper-parameters of the first task: `maxSteps` is about eight passes over the texts."""
TUNING = {
    "stage": "sft",
    "method": "lora",
    "learningRate": 3e-3,
    "maxSteps": 300,
    "tokensPerBatch": 512,
    "maxLength": 128,
    "warmupRatio": 0.05,
    "loraRank": 64,
    "loraAlpha": 128,
    "checkpointEvery": 500,
}
"""Hyper-parameters of the second task: every iteration trains for `maxSteps`, whatever its number of rows."""

T = TypeVar("T")
Question = tuple[str, str]
"""A text and its intent."""


@dataclass(frozen=True, slots=True)
class Banking77:
    """The rows of both tasks. `start`, `pool` and `dev` share no question with one another or with `test`."""

    start: tuple[Question, ...]
    pool: tuple[Question, ...]
    dev: tuple[Question, ...]
    test: tuple[Question, ...]
    texts: tuple[str, ...]
    """Texts for the tokenizer and the pretraining."""
    dev_texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files that the demo uploads."""

    start: Path
    pool: Path
    dev: Path
    test: Path
    texts: Path
    dev_texts: Path


def draw(seed: int, source: Path = SOURCE) -> Banking77:
    """Draw the demo's rows; the same seed gives the same rows."""
    random_ = random.Random(seed)  # noqa: S311  # it draws rows, no secrets
    everything = _distinct(_read(source / "train.csv"), _read(source / "test.csv"))
    groups = _shuffled_groups([q for q in everything if q[1] in INTENTS], random_)
    dev = [question for group in groups.values() for question in _take(group, DEV_ROWS)]
    start = _dirty_start(groups, random_)
    pool = _sample((q for group in groups.values() for q in group), POOL_ROWS, random_)
    dev_questions = {text for text, _ in dev}
    texts = _sample((text for text, _ in everything if text not in dev_questions), None, random_)
    return Banking77(
        start=tuple(start),
        pool=tuple(pool),
        dev=tuple(dev),
        test=tuple(q for q in _read(source / "test.csv") if q[1] in INTENTS),
        texts=tuple(texts[PRETRAINING_DEV_ROWS:]),
        dev_texts=tuple(texts[:PRETRAINING_DEV_ROWS]),
    )


def write(data: Banking77, folder: Path) -> Uploads:
    """Write the upload files: questions as `text,category` CSV, texts as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    return Uploads(
        start=_write_questions(folder / "start.csv", data.start),
        pool=_write_questions(folder / "pool.csv", data.pool),
        dev=_write_questions(folder / "dev.csv", data.dev),
        test=_write_questions(folder / "test.csv", data.test),
        texts=_write_texts(folder / "texts.jsonl", data.texts),
        dev_texts=_write_texts(folder / "dev_texts.jsonl", data.dev_texts),
    )


def pretraining(base: Path, datasets: Mapping[str, str], seed: int) -> dict[str, Any]:
    """Body of the first task, STANDARD; `datasets` maps the fields of `Uploads` to dataset ids."""
    return {
        "taskName": "banking77: pretraining",
        "modelName": str(base),
        "datasetId": datasets["texts"],
        "devDatasetId": datasets["dev_texts"],
        "userId": USER,
        "hyperparameters": PRETRAINING,
        "optimization": {"arm": "none", "testFraction": 0.02},
        "evaluation": {"batchSize": 128, "maxBadCases": 0},
        "seed": seed,
        "autoStart": True,
    }


def loop(model: str, datasets: Mapping[str, str], arm: str, seed: int) -> dict[str, Any]:
    """Body of the second task, CONTINUOUS, on the pretrained `model`."""
    return {
        "taskName": "banking77: the loop",
        "modelName": model,
        "datasetId": datasets["start"],
        "devDatasetId": datasets["dev"],
        "testDatasetId": datasets["test"],
        "poolDatasetId": datasets["pool"],
        "userId": USER,
        "hyperparameters": TUNING,
        "optimization": {"arm": arm, "labelBudget": LABEL_BUDGET},
        "evaluation": {"maxNewTokens": 16, "batchSize": 256},
        "maxIterations": ITERATIONS,
        "seed": seed,
        "autoStart": True,
    }


def normalized(text: str) -> str:
    """Lower-case words without punctuation; texts with the same result count as one question."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _read(path: Path) -> list[Question]:
    """Read the questions of one file; the names of intents become words, which the model learns more easily."""
    with path.open(encoding="utf-8", newline="") as lines:
        return [(row["text"].strip(), row["category"].replace("_", " ")) for row in csv.DictReader(lines)]


def _distinct(questions: Iterable[Question], sealed: Iterable[Question]) -> list[Question]:
    """Each question once, without those in `sealed`."""
    seen = {normalized(text) for text, _ in sealed}
    kept = []
    for text, category in questions:
        if (key := normalized(text)) not in seen:
            seen.add(key)
            kept.append((text, category))
    return kept


def _shuffled_groups(questions: Iterable[Question], random_: random.Random) -> dict[str, list[Question]]:
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        groups[question[1]].append(question)
    names = random_.sample(sorted(groups), len(groups))
    return {name: random_.sample(groups[name], len(groups[name])) for name in names}


def _take(group: list[Question], rows: int) -> list[Question]:
    """Remove the last `rows` questions from the group and return them."""
    taken = group[-rows:]
    del group[-rows:]
    return taken


def _sample(items: Iterable[T], size: int | None, random_: random.Random) -> list[T]:
    everything = list(items)
    return random_.sample(everything, len(everything) if size is None else size)


def _dirty_start(groups: dict[str, list[Question]], random_: random.Random) -> list[Question]:
    """The start set: few rows of some intents, wrong labels, and duplicated rows."""
    common, rare = list(groups)[RARE_INTENTS:], list(groups)[:RARE_INTENTS]
    rows = [q for name in common for q in _take(groups[name], COMMON_ROWS)]
    for index in random_.sample(range(len(rows)), WRONG_LABELS):
        text, category = rows[index]
        rows[index] = (text, random_.choice([name for name in common if name != category]))
    rows += [q for name in rare for q in _take(groups[name], RARE_ROWS)]
    rows += [_copied(question, random_) for question in random_.sample(rows, DUPLICATES)]
    return _sample(rows, None, random_)


def _copied(question: Question, random_: random.Random) -> Question:
    """A duplicate of the row: unchanged, in capitals, or without its final punctuation."""
    text, category = question
    return random_.choice([text, text.upper(), text.rstrip("?.! ")]), category


def _write_questions(path: Path, questions: Sequence[Question]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("text", "category"))
        writer.writerows(questions)
    return path


def _write_texts(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(f"{json.dumps({'text': text}, ensure_ascii=False)}\n" for text in texts), encoding="utf-8")
    return path
