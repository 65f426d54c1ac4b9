"""Routes to upload and read datasets."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from contracts.artifacts import ManifestFile, dataset_prefix
from contracts.http import DatasetView
from control.gateway.errors import RequestRejected
from control.gateway.integers import Digits
from control.gateway.multipart import FORM, read_parts
from control.gateway.pages import PageQuery
from control.gateway.parts import Parts
from control.gateway.responses import BODY_PROBLEMS, created, problems
from control.gateway.routes import GatewayRoute, LongRoute, answering
from control.gateway.upload import FILE, DatasetForm, Upload
from control.gateway.views import dataset_view
from control.store.port import Store
from control.store.values import LARGEST_ID, Dataset

LARGEST_UPLOAD = 2**40
"""Bytes of the body of an upload, which is streamed; `Limits.upload` limits the file in it."""

router = APIRouter(prefix="/api/datasets", tags=["datasets"], route_class=GatewayRoute)
uploads = APIRouter(prefix="/api/datasets", tags=["datasets"], route_class=LongRoute)

DATASET_OPERATIONS = ("datasets_show", "datasets_check", "files_of_dataset", "files_from_dataset")
DatasetId = Annotated[str, Path(alias="datasetId", min_length=1, max_length=100)]
UserId = Annotated[Digits, Path(alias="userId", ge=0, le=LARGEST_ID)]


def _upload_schema() -> dict[str, Any]:
    """The form for the OpenAPI document, because FastAPI does not know a body that is read as a stream."""
    schema = DatasetForm.model_json_schema()
    schema["properties"] = {FILE: {"type": "string", "format": "binary"}, **schema["properties"]}
    schema["required"] = [FILE, *schema["required"]]
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


@uploads.post(
    "/upload",
    status_code=201,
    openapi_extra=_upload_schema(),
    max_body_size=LARGEST_UPLOAD,
    responses=created("The dataset", "datasetId", *DATASET_OPERATIONS) | problems(*BODY_PROBLEMS),
)
async def upload(request: Request, parts: Parts, response: Response) -> DatasetView:
    """Stream a .json, .jsonl or .csv file to the object store as a new dataset; its rows are not parsed yet.

    The status is 503 if this server already receives as many uploads as it can, and 408 if the body stops arriving.
    """
    with parts.capacity.uploads.take():
        async with Upload(parts.objects, parts.limits.upload) as new_upload:
            async for part in read_parts(request):
                await new_upload.receive(part)
            form, file = await new_upload.finish()
    async with answering(request):
        await parts.store.add_dataset(await _dataset(new_upload.dataset_id, form, file, parts.store))
        dataset = await find_dataset(parts.store, new_upload.dataset_id)
    response.headers["Location"] = f"{router.prefix}/{new_upload.dataset_id}"
    return dataset_view(dataset)


@router.get("/upload", include_in_schema=False)
async def only_post() -> None:
    """Say that uploads are sent with POST; without this route "upload" would be the id of a dataset."""
    raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})


@router.get("/user/{userId}")
async def of_user(user_id: UserId, query: Annotated[PageQuery, Query()], parts: Parts) -> list[DatasetView]:
    """One page of the datasets of a user, newest first."""
    found = await parts.store.datasets(user_id, query.page, query.page_size)
    return [dataset_view(dataset) for dataset in found]


@router.get("/{datasetId}", responses=problems(404))
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
