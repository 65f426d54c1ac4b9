"""Routes to upload and read datasets."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from contracts.artifacts import ManifestFile, dataset_prefix
from contracts.http import DatasetView
from control.gateway.errors import RequestRejected
from control.gateway.integers import Digits
from control.gateway.multipart import FORM, read_parts
from control.gateway.parts import Parts
from control.gateway.upload import FILE, DatasetForm, Upload
from control.gateway.views import dataset_view
from control.store.port import Store
from control.store.values import LARGEST_ID, Dataset

LARGEST_UPLOAD = 2**40
"""Bytes of the body of an upload, which is streamed; `GatewayParts.upload_limit` limits the file in it."""

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

DatasetId = Annotated[str, Path(alias="datasetId", min_length=1, max_length=100)]
UserId = Annotated[Digits, Path(alias="userId", ge=0, le=LARGEST_ID)]


def _upload_schema() -> dict[str, Any]:
    """The form for the OpenAPI document, because FastAPI does not know a body that is read as a stream."""
    schema = DatasetForm.model_json_schema()
    schema["properties"] = {FILE: {"type": "string", "format": "binary"}, **schema["properties"]}
    schema["required"] = [FILE, *schema["required"]]
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


@router.post("/upload", status_code=201, openapi_extra=_upload_schema(), max_body_size=LARGEST_UPLOAD)
async def upload(request: Request, parts: Parts, response: Response) -> DatasetView:
    """Stream a .json, .jsonl or .csv file to the object store as a new dataset; its rows are not parsed yet."""
    async with Upload(parts.objects, parts.upload_limit) as new_upload:
        async for part in read_parts(request):
            await new_upload.receive(part)
        form, file = await new_upload.finish()
    await parts.store.add_dataset(await _dataset(new_upload.dataset_id, form, file, parts.store))
    response.headers["Location"] = f"{router.prefix}/{new_upload.dataset_id}"
    return dataset_view(await find_dataset(parts.store, new_upload.dataset_id))


@router.get("/user/{userId}")
async def of_user(user_id: UserId, parts: Parts) -> list[DatasetView]:
    """The datasets of a user, newest first."""
    return [dataset_view(dataset) for dataset in await parts.store.datasets(user_id)]


@router.get("/{datasetId}")
async def show(dataset_id: DatasetId, parts: Parts) -> DatasetView:
    """One dataset, by its id."""
    return dataset_view(await find_dataset(parts.store, dataset_id))


async def find_dataset(store: Store, dataset_id: str, field: str = "datasetId") -> Dataset:
    """The dataset with this id, which `field` of the request names. Raises RequestRejected if there is none."""
    dataset = await store.dataset(dataset_id)
    if dataset is None:
        raise RequestRejected(
            HTTPStatus.NOT_FOUND,
            field,
            f"there is no dataset {dataset_id}; list the datasets of a user with GET {router.prefix}/user/{{userId}}",
        )
    return dataset


async def _dataset(dataset_id: str, form: DatasetForm, file: ManifestFile, store: Store) -> Dataset:
    return Dataset(
        dataset_id=dataset_id,
        name=form.name,
        storage_path=dataset_prefix(form.user_id, dataset_id),
        file_size=file.size,
        sample_count=None,
        dataset_type=form.dataset_type,
        domain=form.domain,
        user_id=form.user_id,
        is_optimized=False,
        source_dataset_id=None,
        created_at=await store.now(),
    )
