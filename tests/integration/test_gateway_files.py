"""The files of datasets and iterations over HTTP, on real S3 servers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from contracts.leases import Claim, WorkerState
from contracts.options import StopRules
from contracts.tasks import ModelSource, TaskMode
from control.gateway.files import iteration_prefixes
from control.machine.commands import next_iteration
from control.machine.machine import advance
from control.machine.task import Task
from infra.artifacts import upload
from infra.objects import ObjectStore
from tests.build import CLAIM, TASK, complete, completed, key_of, new_task, start, started
from tests.gateway import Gateway, fields
from tests.object_store import s3_settings

__all__ = ["s3_settings"]

ROWS = b'{"text": "one"}\n{"text": "two"}\n'
DATA = {"train.jsonl": ROWS, "ledger.jsonl": b"{}\n", "splits/dev.jsonl": ROWS, "splits/test.jsonl": b"secret\n"}
UPLOAD = {"data": {"name": "rows", "userId": "1"}, "files": {"file": ("my rows.jsonl", ROWS)}}


@pytest.fixture
def write(objects: ObjectStore, tmp_path: Path) -> Any:
    async def write_artifact(prefix: str, files: Mapping[str, bytes]) -> None:
        folder = tmp_path / prefix
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        await upload(objects, prefix, folder)

    return write_artifact


async def claimed(gateway: Gateway, task_id: UUID) -> Task:
    """The task, whose newest attempt a worker has claimed."""
    task = (await gateway.store.task(task_id)).task
    key = key_of(task)
    worker = WorkerState(worker_id="worker-1", phase=key.phase, host="here", slots=1, busy=1)
    await gateway.store.lease(worker, [Claim(key=key, claim_id=CLAIM)], [])
    return task


async def complete_phase(gateway: Gateway, task_id: UUID) -> None:
    await gateway.apply_event(completed(await claimed(gateway, task_id)))


async def listed(gateway: Gateway, address: str) -> dict[str, Any]:
    answer = await gateway.http.get(f"{address}/files")
    assert answer.status_code == 200, answer.text
    return {file["name"]: file for file in answer.json()["files"]}


async def get(gateway: Gateway, address: str, path: str, **headers: str) -> httpx.Response:
    return await gateway.http.get(f"{address}/files/{path}", headers=headers)


async def test_the_file_of_an_upload_is_listed_and_served_as_an_attachment(storing_gateway: Gateway) -> None:
    dataset = (await storing_gateway.http.post("/api/datasets/upload", **UPLOAD)).json()
    address = f"/api/datasets/{dataset['datasetId']}"
    facts = {"name": "my-rows.jsonl", "size": len(ROWS), "sha256": hashlib.sha256(ROWS).hexdigest()}
    assert await listed(storing_gateway, address) == {"my-rows.jsonl": facts}
    answer = await get(storing_gateway, address, "my-rows.jsonl")
    assert answer.content == ROWS
    assert (
        dict(answer.headers).items()
        >= {
            "content-type": "application/octet-stream",
            "content-length": str(len(ROWS)),
            "content-disposition": "attachment; filename*=UTF-8''my-rows.jsonl",
            "x-content-type-options": "nosniff",
        }.items()
    )


async def test_an_iteration_lists_each_artifact_as_soon_as_it_is_there(storing_gateway: Gateway, write: Any) -> None:
    task_id = await storing_gateway.create(autoStart=True)
    await write(f"optimized/{task_id}/1/a1", DATA)
    await write(f"models/{task_id}/1/a1", {"adapter_config.json": b"{}"})
    await write(f"evaluations/{task_id}/1/a1", {"dev_report.json": b"{}"})
    address = f"/api/tasks/{task_id}/iterations/1"
    seen = [set(await listed(storing_gateway, address))]
    for _ in range(3):
        await complete_phase(storing_gateway, task_id)
        seen.append(set(await listed(storing_gateway, address)))
    data = {"data/train.jsonl", "data/ledger.jsonl", "data/splits/dev.jsonl"}
    model, report = {"model/adapter_config.json"}, {"report/dev_report.json"}
    assert seen == [set(), data, data | model, data | model | report]


async def test_a_file_of_an_iteration_is_served(storing_gateway: Gateway, write: Any) -> None:
    task_id = await storing_gateway.create(autoStart=True)
    await write(f"optimized/{task_id}/1/a1", DATA)
    await complete_phase(storing_gateway, task_id)
    answer = await get(storing_gateway, f"/api/tasks/{task_id}/iterations/1", "data/splits/dev.jsonl")
    assert (answer.status_code, answer.content) == (200, ROWS)


async def test_the_sealed_test_rows_are_neither_listed_nor_served(storing_gateway: Gateway, write: Any) -> None:
    task_id = await storing_gateway.create(autoStart=True)
    await write(f"optimized/{task_id}/1/a1", DATA)
    await complete_phase(storing_gateway, task_id)
    for address, folder in ((f"/api/tasks/{task_id}/iterations/1", "data/"), (f"/api/datasets/{task_id}-1-a1", "")):
        assert f"{folder}splits/test.jsonl" not in await listed(storing_gateway, address)
        answer = await get(storing_gateway, address, f"{folder}splits/test.jsonl")
        assert (answer.status_code, fields(answer)) == (403, ["path"])
        assert "sealed" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "train.jsonl",
        "data",
        "data/",
        "data/nothing",
        "data/_MANIFEST.json",
        "data/%2e%2e/1/train.jsonl",
        "data/..%2F..%2Fmodels%2F1%2Fadapter_config.json",
        "data%2F..%2F..%2Fsecret",
        "optimized/1/train.jsonl",
        "data//train.jsonl",
        "data/train.jsonl%00",
    ],
)
async def test_a_path_that_is_not_in_the_manifest_is_404(storing_gateway: Gateway, write: Any, path: str) -> None:
    task_id = await storing_gateway.create(autoStart=True)
    await write(f"optimized/{task_id}/1/a1", DATA)
    await complete_phase(storing_gateway, task_id)
    answer = await get(storing_gateway, f"/api/tasks/{task_id}/iterations/1", path)
    assert (answer.status_code, fields(answer)) == (404, ["path"])


@pytest.mark.parametrize(
    ("given", "status", "content"),
    [
        ("bytes=0-", 200, ROWS),
        ("bytes=5-", 206, ROWS[5:]),
        ("bytes=5-8", 200, ROWS),
        ("bytes=-5", 200, ROWS),
        ("rows=5-", 200, ROWS),
    ],
)
async def test_a_download_is_resumed_by_a_range(
    storing_gateway: Gateway, given: str, status: int, content: bytes
) -> None:
    dataset = (await storing_gateway.http.post("/api/datasets/upload", **UPLOAD)).json()
    answer = await get(storing_gateway, f"/api/datasets/{dataset['datasetId']}", "my-rows.jsonl", Range=given)
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers["content-length"] == str(len(content))
    if status == 206:
        assert answer.headers["content-range"] == f"bytes 5-{len(ROWS) - 1}/{len(ROWS)}"


async def test_a_range_after_the_end_is_416(storing_gateway: Gateway) -> None:
    dataset = (await storing_gateway.http.post("/api/datasets/upload", **UPLOAD)).json()
    address = f"/api/datasets/{dataset['datasetId']}"
    answer = await get(storing_gateway, address, "my-rows.jsonl", Range=f"bytes={len(ROWS)}-")
    assert (answer.status_code, fields(answer)) == (416, ["Range"])


async def test_an_iteration_that_is_not_reached_is_404(storing_gateway: Gateway) -> None:
    task_id = await storing_gateway.create(autoStart=True)
    answer = await storing_gateway.http.get(f"/api/tasks/{task_id}/iterations/2/files")
    assert (answer.status_code, fields(answer)) == (404, ["iteration"])


async def test_a_folder_whose_files_were_deleted_is_named(storing_gateway: Gateway, write: Any) -> None:
    task_id = await storing_gateway.create(autoStart=True)
    await write(f"models/{task_id}/1/a1", {"model.safetensors": b"weights"})
    for _ in range(2):
        await complete_phase(storing_gateway, task_id)
    answer = (await storing_gateway.http.get(f"/api/tasks/{task_id}/iterations/1/files")).json()
    assert answer["removed"] == ["data"]
    assert [file["name"] for file in answer["files"]] == ["model/model.safetensors"]


async def test_a_dataset_whose_files_were_deleted_is_404(storing_gateway: Gateway) -> None:
    answer = await storing_gateway.http.get("/api/datasets/rows/files")
    assert (answer.status_code, fields(answer)) == (404, ["datasetId"])


async def test_a_file_that_was_deleted_after_its_listing_is_404(
    storing_gateway: Gateway, objects: ObjectStore, write: Any
) -> None:
    task_id = await storing_gateway.create(autoStart=True)
    await write(f"optimized/{task_id}/1/a1", DATA)
    await objects.delete([f"optimized/{task_id}/1/a1/train.jsonl"])
    await complete_phase(storing_gateway, task_id)
    answer = await get(storing_gateway, f"/api/tasks/{task_id}/iterations/1", "data/train.jsonl")
    assert (answer.status_code, fields(answer)) == (404, ["path"])


@pytest.mark.parametrize("path", ["", "/rows.jsonl"])
async def test_an_object_store_that_is_away_is_503(gateway: Gateway, path: str) -> None:
    answer = await gateway.http.get(f"/api/datasets/rows/files{path}")
    assert (answer.status_code, fields(answer)) == (503, ["object_store"])


LAYERS = [
    (ModelSource(base="path:/model"), {}),
    (ModelSource(base="artifact:models/full"), {"model": "models/full"}),
    (ModelSource(base="hub:a/b", adapters=("models/1",)), {"model": "models/1"}),
    (ModelSource(base="artifact:models/b", adapters=("models/1",)), {"base": "models/b", "model": "models/1"}),
    (
        ModelSource(base="artifact:models/b", adapters=("models/1", "models/2", "models/3")),
        {"base": "models/b", "adapters/1": "models/1", "adapters/2": "models/2", "model": "models/3"},
    ),
]


@pytest.mark.parametrize(("model", "folders"), LAYERS, ids=[str(len(folders)) for _, folders in LAYERS])
def test_every_layer_of_a_model_has_its_folder(model: ModelSource, folders: dict[str, str]) -> None:
    task = complete(started(), 1)
    task = advance(task, completed(task).model_copy(update={"model": model})).task
    assert iteration_prefixes(task, 1) == {"data": f"optimized/{TASK}/1/a1", **folders}


def test_each_iteration_has_its_own_artifacts() -> None:
    task = new_task(TaskMode.CONTINUOUS, stop=StopRules(max_iterations=3))
    task = complete(advance(task, start(task)).task, 3)
    task = complete(advance(task, next_iteration(task)).task, 1)
    folders = {"data": "optimized", "model": "models", "report": "evaluations"}
    assert iteration_prefixes(task, 1) == {name: f"{folder}/{TASK}/1/a1" for name, folder in folders.items()}
    assert iteration_prefixes(task, 2) == {"data": f"optimized/{TASK}/2/a1"}
