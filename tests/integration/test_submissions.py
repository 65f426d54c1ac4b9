"""A submission has the same effect over HTTP and as a message that is published with aio-pika."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pytest
import pytest_asyncio

from infra.bus.port import IncomingMessage
from infra.settings import Settings
from tests.eventually import eventually
from tests.integration.control_parts import BODY, Running, add_dataset, control_running, send

WRONG = [
    ({"performanceThreshold": 95}, "performanceThreshold"),
    ({"hyperparameters": {"learningRate": 7}}, "learningRate"),
    ({"hyperparameters": "{"}, "hyperparameters"),
    ({"maxIterations": True}, "maxIterations"),
    ({"hyperparameters": '{"epochs": true}'}, "epochs"),
    ({"datasetId": "nothing"}, "datasetId"),
    ({"modelName": "qwen-7b"}, "modelName"),
    ({"modelName": f"task:{uuid4()}"}, "modelName"),
    ({"modelName": f"task:{'-' * 36}"}, "modelName"),
    ({"modelName": f"task:{uuid4()}/99999999999"}, "modelName"),
    ({"thresholdByLowerBound": True, "performanceThreshold": None}, "thresholdByLowerBound"),
    ({"hyperparameters": "[" * 100_000}, "hyperparameters"),
    ({"surprise": 1}, "surprise"),
]


@pytest_asyncio.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Control with one dataset."""
    async with control_running(settings) as running:
        await add_dataset(running.store)
        yield running


def create(body: dict[str, Any], submission: UUID | None = None) -> dict[str, Any]:
    task = {"mode": "CONTINUOUS", **body}
    return {"kind": "create_task", "version": 1, "submission_id": str(submission or uuid4()), "task": task}


async def shown(running: Running, task_id: str) -> dict[str, Any]:
    answer = (await running.http.get(f"/api/tasks/{task_id}")).json()
    answer["waiting"] = answer["waiting"]["reason"]
    return {k: v for k, v in answer.items() if k not in {"taskId", "createdAt", "updatedAt"}}


async def test_a_task_created_over_http_equals_one_created_over_the_broker(running: Running, bus_url: str) -> None:
    by_http = (await running.http.post("/api/tasks/continuous", json=BODY)).json()
    by_broker = await send(bus_url, create(BODY))
    assert by_broker["kind"] == "submission_accepted"
    assert by_broker["status"] == by_http["status"] == "OPTIMIZING"
    assert await shown(running, by_broker["task_id"]) == await shown(running, by_http["taskId"])


@pytest.mark.parametrize(("change", "field"), WRONG, ids=[f"{f}-{n}" for n, (_, f) in enumerate(WRONG)])
async def test_a_wrong_field_is_named_alike_over_http_and_over_the_broker(
    running: Running, bus_url: str, change: dict[str, Any], field: str
) -> None:
    by_http = await running.http.post("/api/tasks/continuous", json={**BODY, **change})
    by_broker = await send(bus_url, create({**BODY, **change}))
    assert by_http.status_code == 422
    assert by_broker["kind"] == "submission_refused"
    findings = by_http.json()["errors"], by_broker["problem"]["errors"]
    for errors in findings:
        assert any(field in error["field"] for error in errors), errors
    assert [error["message"] for error in findings[0]] == [error["message"] for error in findings[1]]


async def test_a_submission_that_is_sent_twice_creates_one_task(running: Running, bus_url: str) -> None:
    message = create(BODY)
    first, second = await send(bus_url, message), await send(bus_url, message)
    assert first == second
    assert (await running.http.get("/api/tasks")).json()["total"] == 1


async def test_a_submission_without_an_id_is_refused_because_every_redelivery_would_repeat_it(
    running: Running, bus_url: str
) -> None:
    message = create(BODY)
    del message["submission_id"]
    answer = await send(bus_url, message)
    assert [error["field"] for error in answer["problem"]["errors"]] == ["submission_id"]


async def test_a_submission_id_used_again_with_another_body_is_a_conflict(running: Running, bus_url: str) -> None:
    submission = uuid4()
    await send(bus_url, create(BODY, submission))
    answer = await send(bus_url, create({**BODY, "taskName": "other"}, submission))
    assert answer["problem"]["status"] == 409


async def test_a_task_started_twice_is_refused_alike_over_http_and_over_the_broker(
    running: Running, bus_url: str
) -> None:
    task = (await running.http.post("/api/tasks/continuous", json=BODY)).json()["taskId"]
    by_http = await running.http.post(f"/api/tasks/{task}/start")
    by_broker = await send(
        bus_url, {"kind": "start_task", "version": 1, "submission_id": str(uuid4()), "task_id": task}
    )
    assert by_http.status_code == by_broker["problem"]["status"] == 409
    assert by_http.json()["detail"] == by_broker["problem"]["detail"]


async def test_an_unknown_task_is_refused_alike_over_http_and_over_the_broker(running: Running, bus_url: str) -> None:
    task = str(uuid4())
    by_http = await running.http.post(f"/api/tasks/{task}/cancel")
    by_broker = await send(
        bus_url, {"kind": "cancel_task", "version": 1, "submission_id": str(uuid4()), "task_id": task}
    )
    assert by_http.status_code == by_broker["problem"]["status"] == 404


@pytest.mark.parametrize("kind", ["pause_task", "resume_task", "cancel_task"])
async def test_a_request_over_the_broker_is_answered_with_the_new_status(
    running: Running, bus_url: str, kind: str
) -> None:
    task = (await running.http.post("/api/tasks/continuous", json=BODY)).json()["taskId"]
    if kind == "resume_task":
        await running.http.post(f"/api/tasks/{task}/pause")
    answer = await send(bus_url, {"kind": kind, "version": 1, "submission_id": str(uuid4()), "task_id": task})
    expected = {"pause_task": "SUSPENDED", "resume_task": "OPTIMIZING", "cancel_task": "CANCELLED"}
    assert answer["status"] == expected[kind]


async def test_a_submission_whose_reply_to_is_a_queue_of_treadle_is_not_answered(
    running: Running, bus_url: str
) -> None:
    async with await aio_pika.connect(bus_url) as connection:
        channel = await connection.channel()
        body = aio_pika.Message(json.dumps(create({})).encode(), reply_to="treadle.control")
        await (await channel.get_exchange("treadle.tasks")).publish(body, routing_key="create_task")

        async def dead() -> list[IncomingMessage]:
            async with running.bus.browse("treadle.dead", 2) as letters:
                return letters

        (letter,) = await eventually(dead, "the refusal among the dead letters")
        assert letter.headers["x-treadle-queue"] == "treadle.submissions"
