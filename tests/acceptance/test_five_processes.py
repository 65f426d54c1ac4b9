"""Five processes on a real broker, database and object store; each is killed in the middle of a phase."""

from __future__ import annotations

import asyncio
import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from infra.stack.ports import free_port
from tests.acceptance.processes import PATIENCE, House, running
from tests.eventually import eventually
from tests.models import tiny_model, tiny_tokenizer

BANKING = Path(__file__).parents[2] / "examples" / "banking77" / "train.csv"
INTENTS = ("card_arrival", "lost_or_stolen_card", "top_up_failed")
LEASE = 4.0
PHASE_OF_WORKER = {"optimizer": "optimization", "trainer": "training", "evaluator": "evaluation"}
KILLED_DURING = {"optimizer": "optimizer", "control-1": "trainer", "trainer": "trainer"}
KILLED_LATER = {"control-2": "evaluator", "evaluator": "evaluator"}


def rows_of_three_intents() -> list[tuple[str, str]]:
    with BANKING.open(newline="", encoding="utf-8") as file:
        return [(row["text"].strip(), row["category"]) for row in csv.DictReader(file) if row["category"] in INTENTS]


def a_base_model(folder: Path, rows: list[tuple[str, str]]) -> Path:
    tokenizer = tiny_tokenizer(words=[word for text, label in rows for word in (*text.lower().split(), label)])
    tiny_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


async def upload(house: House, name: str, rows: list[tuple[str, str]]) -> str:
    lines = ["text,category", *(f'"{text.replace(chr(34), "")}",{label}' for text, label in rows)]
    file = {"file": (f"{name}.csv", "\n".join(lines).encode(), "text/csv")}
    made = await house.post("/api/datasets/upload", files=file, data={"name": name, "userId": "1"})
    return str(made["datasetId"])


async def submit(house: House, mode: str, model: Path, datasets: dict[str, str], **more: object) -> str:
    body = {
        "taskName": f"{mode} task",
        "modelName": str(model),
        "userId": 1,
        "hyperparameters": {"method": "lora", "maxSteps": 20, "maxLength": 96, "loraRank": 4, "learningRate": 0.01},
        "optimization": {"labelBudget": 20},
        "evaluation": {"maxNewTokens": 8},
        "autoStart": True,
        **datasets,
        **more,
    }
    made = await house.post(f"/api/tasks/{mode}", json=body)
    return str(made["taskId"])


async def is_running(house: House, task: str, phase: str) -> bool:
    runs = await house.get(f"/api/tasks/{task}/executions")
    return any(run["phase"] == phase and run["status"] == "running" for run in runs)


async def kill_in_the_middle(house: House, victim: str, worker: str, task: str) -> None:
    """Kill `victim` while `worker` runs its phase of `task`, and start it again."""
    phase = PHASE_OF_WORKER[worker]
    await eventually(lambda: is_running(house, task, phase), f"{phase} to run", PATIENCE)
    house.services[victim].kill()
    house.services[victim].start()


async def ended(house: House, task: str) -> dict[str, Any] | None:
    found: dict[str, Any] = await house.get(f"/api/tasks/{task}")
    return found if found["status"] in {"COMPLETED", "FAILED", "CANCELLED"} else None


def applied(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in history if row["outcome"] == "applied"]


def transitions(history: list[dict[str, Any]]) -> list[str]:
    """What moved the task on; attempts that were lost, and tried again, left out."""
    return [row["kind"] for row in applied(history) if row["kind"] not in {"lease_lost", "phase_failed"}]


@pytest.mark.slow
async def test_killing_any_process_in_the_middle_of_a_phase_loses_nothing_and_repeats_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    quick = settings.model_copy(update={"short_ttl": LEASE, "train_ttl": LEASE, "sweep_after": LEASE})
    rows = rows_of_three_intents()
    model = a_base_model(tmp_path / "base", rows)
    async with running(quick, (free_port(), free_port()), tmp_path) as house:
        datasets = {
            "datasetId": await upload(house, "start", rows[0::6]),
            "poolDatasetId": await upload(house, "pool", rows[1::6] + rows[2::6]),
            "devDatasetId": await upload(house, "dev", rows[3::12]),
            "testDatasetId": await upload(house, "test", rows[4::12]),
        }
        loop = await submit(house, "continuous", model, datasets, maxIterations=2)
        for victim, worker in KILLED_DURING.items():
            await kill_in_the_middle(house, victim, worker, loop)
        once = await submit(house, "standard", model, datasets)
        for victim, worker in KILLED_LATER.items():
            await kill_in_the_middle(house, victim, worker, loop)
        ends = await asyncio.gather(*(eventually(lambda t=t: ended(house, t), "its end", 240) for t in (loop, once)))
        histories = [await house.get(f"/api/tasks/{task}/events") for task in (loop, once)]

    assert [(end["status"], end["reason"]) for end in ends] == [
        ("COMPLETED", "max_iterations"),
        ("COMPLETED", "once_through"),
    ]
    turn = ["data_optimized", "model_trained", "model_evaluated"]
    assert transitions(histories[0]) == ["create_task", "start_task", *turn, "next_iteration", *turn]
    assert transitions(histories[1]) == ["create_task", "start_task", *turn]
    for history in histories:
        versions = [row["version"] for row in applied(history)]
        assert all(after == before + 1 for before, after in pairwise(versions)), versions
