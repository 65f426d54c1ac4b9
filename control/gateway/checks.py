"""The route that checks the rows of a dataset."""

from __future__ import annotations

from fastapi import APIRouter, Request

from contracts.checks import CheckReport, CheckRequest
from control.gateway.datasets import DatasetId, find_dataset
from control.gateway.disconnects import while_connected
from control.gateway.parts import Parts
from control.gateway.responses import BODY_PROBLEMS, problems
from control.gateway.routes import LongRoute, answering

router = APIRouter(prefix="/api/datasets", tags=["datasets"], route_class=LongRoute)


@router.post("/{datasetId}/check", responses=problems(404, *BODY_PROBLEMS, 501, 504))
async def check(
    dataset_id: DatasetId, parts: Parts, connection: Request, body: CheckRequest | None = None
) -> CheckReport:
    """What a task would read, keep and set aside of a dataset's rows, and why; nothing is stored.

    If a task with these rows would fail, `problem` says why; the status is 200 then too. One check runs at a time; the
    status is 503 if another one takes long, or if several wait. A check ends if its client disconnects.
    """
    request = body or CheckRequest()
    ids = {"train": dataset_id, "dev": request.dev_dataset_id, "test": request.test_dataset_id}
    async with answering(connection):
        datasets = {name: await find_dataset(parts.store, id_, FIELDS[name]) for name, id_ in ids.items() if id_}
    return await while_connected(connection, parts.row_checks.check(datasets, request))


FIELDS = {"train": "datasetId", "dev": "devDatasetId", "test": "testDatasetId"}
"""The request field that names each dataset."""
