"""Five processes run on a real broker, database and object store; each is killed in the middle of a phase."""

from __future__ import annotations

import asyncio
import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from infra.settings import Settings
from infra.stack.ports import free_port
from tests.acceptance.processes import TIMEOUT, Deployment, running
from tests.eventually import eventually
from tests.models import tiny_model, tiny_tokenizer

BANKING = Path(__file__).parents[2] / "examples" / "banking77" / "train.csv"
INTENTS = ("card_arrival", "lost_or_stolen_card", "top_up_failed")
LEASE_SECONDS = 4.0
PHASE_OF_WORKER = {"optimizer": "optimization", "trainer": "training", "evaluator": "evaluation"}
KILLED_DURING = {"optimizer": "optimizer", "control-1": "trainer", "trainer": "trainer"}
KILLED_LATER = {"control-2": "evaluator", "evaluator": "evaluator"}


def rows_of_three_intents() -> list[tuple[str, str]]:
    with BANKING.open(newline="", encoding="utf-8") as file:
        return [(row["text"].strip(), row["category"]) for row in csv.DictReader(file) if row["category"] in INTENTS]


def save_base_model(folder: Path, rows: list[tuple[str, str]]) -> Path:
    tokenizer = tiny_tokenizer(words=[word for text, label in rows for word in (*text.lower().split(), label)])
    tiny_model(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


async def upload(deployment: Deployment, name: str, rows: list[tuple[str, str]]) -> str:
    lines = ["text,category", *(f'"{text.replace(chr(34), "")}",{label}' for text, label in rows)]
    file = {"file": (f"{name}.csv", "\n".join(lines).encode(), "text/csv")}
    created = await deployment.post("/api/datasets/upload", files=file, data={"name": name, "userId": "1"})
    return str(created["datasetId"])


async def submit(deployment: Deployment, mode: str, model: Path, datasets: dict[str, str], **more: object) -> str:
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
    created = await deployment.post(f"/api/tasks/{mode}", json=body)
    return str(created["taskId"])


async def is_running(deployment: Deployment, task: str, phase: str) -> bool:
    attempts = await deployment.get(f"/api/tasks/{task}/executions")
    return any(attempt["phase"] == phase and attempt["status"] == "running" for attempt in attempts)


async def kill_in_the_middle(deployment: Deployment, process: str, worker: str, task: str) -> None:
    """Kill `process` while `worker` runs its phase of `task`, and start it again."""
    phase = PHASE_OF_WORKER[worker]
    await eventually(lambda: is_running(deployment, task, phase), f"{phase} to run", TIMEOUT)
    deployment.services[process].kill()
    deployment.services[process].start()


async def ended(deployment: Deployment, task: str) -> dict[str, Any] | None:
    body: dict[str, Any] = await deployment.get(f"/api/tasks/{task}")
    return body if body["status"] in {"COMPLETED", "FAILED", "CANCELLED"} else None


def applied(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in history if row["outcome"] == "applied"]


def transitions(history: list[dict[str, Any]]) -> list[str]:
    """The kinds of the applied events, without lost and failed attempts."""
    return [row["kind"] for row in applied(history) if row["kind"] not in {"lease_lost", "phase_failed"}]


@pytest.mark.slow
async def test_killing_any_process_in_the_middle_of_a_phase_loses_nothing_and_repeats_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    quick = settings.model_copy(
        update={"short_ttl": LEASE_SECONDS, "train_ttl": LEASE_SECONDS, "sweep_after": LEASE_SECONDS}
    )
    rows = rows_of_three_intents()
    model = save_base_model(tmp_path / "base", rows)
    async with running(quick, (free_port(), free_port()), tmp_path) as deployment:
        datasets = {
            "datasetId": await upload(deployment, "start", rows[0::6]),
            "poolDatasetId": await upload(deployment, "pool", rows[1::6] + rows[2::6]),
            "devDatasetId": await upload(deployment, "dev", rows[3::12]),
            "testDatasetId": await upload(deployment, "test", rows[4::12]),
        }
        loop = await submit(deployment, "continuous", model, datasets, maxIterations=2)
        for process, worker in KILLED_DURING.items():
            await kill_in_the_middle(deployment, process, worker, loop)
        once = await submit(deployment, "standard", model, datasets)
        for process, worker in KILLED_LATER.items():
            await kill_in_the_middle(deployment, process, worker, loop)
        ends = await asyncio.gather(
            *(eventually(lambda t=t: ended(deployment, t), "the task to end", 240) for t in (loop, once))
        )
        histories = [await deployment.get(f"/api/tasks/{task}/events") for task in (loop, once)]

    assert [(end["status"], end["reason"]) for end in ends] == [
        ("COMPLETED", "max_iterations"),
        ("COMPLETED", "once_through"),
    ]
    iteration = ["data_optimized", "model_trained", "model_evaluated"]
    assert transitions(histories[0]) == ["create_task", "start_task", *iteration, "next_iteration", *iteration]
    assert transitions(histories[1]) == ["create_task", "start_task", *iteration]
    for history in histories:
        versions = [row["version"] for row in applied(history)]
        assert all(after == before + 1 for before, after in pairwise(versions)), versions
