"""Routes to list and download the files of datasets and iterations."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path
from fastapi.responses import StreamingResponse

from contracts.files import FilesView, Folder
from contracts.tasks import ModelSource
from control.gateway.artifact_files import BINARY, list_files, send_file
from control.gateway.datasets import DatasetId, find_dataset
from control.gateway.errors import RequestRejected
from control.gateway.integers import Digits
from control.gateway.limits import download_slot
from control.gateway.parts import Parts
from control.gateway.responses import problems
from control.gateway.routes import GatewayRoute
from control.gateway.tasks import TaskId
from control.machine.task import Task
from control.store.port import Store

ARTIFACT = "artifact:"
BYTES = {"type": "string", "format": "binary"}

router = APIRouter(prefix="/api", tags=["files"], route_class=GatewayRoute, responses=problems(404))

Iteration = Annotated[Digits, Path(ge=1, lt=2**31)]
DOWNLOAD: dict[str, Any] = {
    "response_class": StreamingResponse,
    "dependencies": [Depends(download_slot)],
    "responses": {
        200: {"description": "The file", "content": {BINARY: {"schema": BYTES}}},
        206: {"description": "The rest of the file", "content": {BINARY: {"schema": BYTES}}},
        **problems(416),
    },
}
"""What the routes of downloads share."""
ByteRange = Annotated[str | None, Header(alias="Range", description="Only `bytes=N-` is honoured.")]


@router.get("/datasets/{datasetId}/files")
async def of_dataset(dataset_id: DatasetId, parts: Parts) -> FilesView:
    """The files of a dataset, with their sizes and hashes."""
    dataset = await find_dataset(parts.store, dataset_id)
    files = await list_files(parts.objects, {"": dataset.storage_path})
    if files.removed:
        raise RequestRejected(HTTPStatus.NOT_FOUND, "datasetId", f"the files of {dataset_id} were deleted")
    return files


@router.get("/datasets/{datasetId}/files/{path:path}", **DOWNLOAD)
async def from_dataset(
    dataset_id: DatasetId, path: str, parts: Parts, byte_range: ByteRange = None
) -> StreamingResponse:
    """One file of a dataset, as an attachment; `Range: bytes=N-` continues a download."""
    dataset = await find_dataset(parts.store, dataset_id)
    return await send_file(parts.objects, {"": dataset.storage_path}, path, byte_range)


@router.get("/tasks/{taskId}/iterations/{iteration}/files")
async def of_iteration(task_id: TaskId, iteration: Iteration, parts: Parts) -> FilesView:
    """The files of an iteration in the folders `data`, `model`, `base`, `adapters/1` … and `report`.

    `model` is the newest layer: if it is an adapter, the earlier ones are in `adapters/` and a stored base in `base`.
    The rows of the sealed test split are not listed.
    """
    return await list_files(parts.objects, await _prefixes(parts.store, task_id, iteration))


@router.get("/tasks/{taskId}/iterations/{iteration}/files/{path:path}", **DOWNLOAD)
async def from_iteration(
    task_id: TaskId, iteration: Iteration, path: str, parts: Parts, byte_range: ByteRange = None
) -> StreamingResponse:
    """One file of an iteration, as an attachment; `Range: bytes=N-` continues a download."""
    return await send_file(parts.objects, await _prefixes(parts.store, task_id, iteration), path, byte_range)


async def _prefixes(store: Store, task_id: UUID, iteration: int) -> dict[str, str]:
    task = (await store.task(task_id)).task
    if iteration > task.iteration:
        message = f"expected an iteration from 1 to {task.iteration}" if task.iteration else "the task has not started"
        raise RequestRejected(HTTPStatus.NOT_FOUND, "iteration", message)
    return iteration_prefixes(task, iteration)


def iteration_prefixes(task: Task, iteration: int) -> dict[str, str]:
    """The artifacts that an iteration has so far: folder to prefix."""
    result = next((result for result in task.results if result.iteration == iteration), None)
    produced = result or task.current
    prefixes = {Folder.DATA.value: produced.dataset.prefix} if produced.dataset else {}
    if produced.model:
        prefixes |= _layers(produced.model)
    if result:
        prefixes[Folder.REPORT] = result.report
    return prefixes


def _layers(model: ModelSource) -> dict[str, str]:
    prefix = model.base.removeprefix(ARTIFACT) if model.base.startswith(ARTIFACT) else None
    if not model.adapters:
        return {Folder.MODEL: prefix} if prefix else {}
    *earlier, newest = model.adapters
    base = {Folder.BASE.value: prefix} if prefix else {}
    below = {f"{Folder.ADAPTERS}/{number}": adapter for number, adapter in enumerate(earlier, 1)}
    return base | below | {Folder.MODEL: newest}
