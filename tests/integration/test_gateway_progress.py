from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from httpx import Response
from httpx_sse import EventSource, ServerSentEvent

from contracts.leases import Claim, WorkerState
from contracts.progress import PhaseProgress
from contracts.tasks import Phase
from tests.build import CLAIM
from tests.gateway import Gateway, fields


def sse(answer: Response) -> list[ServerSentEvent]:
    return list(EventSource(answer).iter_sse())


def kinds(answer: Response) -> list[str]:
    return [event.json()["kind"] for event in sse(answer)]


async def get_progress(gateway: Gateway, task_id: UUID, **headers: str) -> Response:
    return await gateway.http.get(f"/api/tasks/{task_id}/progress", headers=headers)


async def progress(gateway: Gateway, task_id: UUID, sequence: int = 1, **more: Any) -> PhaseProgress:
    key = (await gateway.store.task(task_id)).task.key
    assert key is not None
    given = {"stage": "training", "done": 1, "total": 2, **more}
    return PhaseProgress(key=key, worker_id="worker-1", sequence=sequence, **given)


async def claimed(gateway: Gateway) -> UUID:
    """A started task, whose first attempt the worker `worker-1` has claimed."""
    task_id = await gateway.create(autoStart=True)
    claim = Claim(key=(await progress(gateway, task_id)).key, claim_id=CLAIM)
    worker = WorkerState(worker_id="worker-1", phase=Phase.OPTIMIZE, host="here", slots=1, busy=0)
    await gateway.store.lease(worker, [claim], [])
    return task_id


async def test_the_history_of_a_finished_task_is_replayed(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    assert kinds(await get_progress(gateway, task_id)) == ["create_task", "start_task", "cancel_task"]


async def test_the_replay_begins_after_the_last_event_id(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    first = sse(await get_progress(gateway, task_id))[0]
    rest = await get_progress(gateway, task_id, **{"Last-Event-ID": first.id})
    assert kinds(rest) == ["start_task", "cancel_task"]


async def test_every_history_event_has_its_id_and_the_time_to_reconnect(gateway: Gateway) -> None:
    task_id = await gateway.create()
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    events = sse(await get_progress(gateway, task_id))
    rows = await gateway.store.history(task_id)
    assert [(e.id, e.event, e.retry) for e in events] == [(str(row.id), "history", 2000) for row in rows]


async def test_a_client_that_reconnects_after_the_end_gets_204(gateway: Gateway) -> None:
    task_id = await gateway.create()
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    last = sse(await get_progress(gateway, task_id))[-1].id
    assert (await get_progress(gateway, task_id, **{"Last-Event-ID": last})).status_code == 204


async def test_a_stream_shows_progress_and_ends_with_the_task(gateway: Gateway) -> None:
    task_id = await claimed(gateway)
    gateway.progress_hub.report(await progress(gateway, task_id))
    stream = asyncio.create_task(get_progress(gateway, task_id))
    await asyncio.wait_for(gateway.progress_hub.waiting.wait(), 5)
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    answer = await asyncio.wait_for(stream, 5)
    assert kinds(answer) == ["create_task", "start_task", "phase_progress", "cancel_task"]


async def test_only_the_latest_progress_is_shown(gateway: Gateway) -> None:
    task_id = await claimed(gateway)
    for sequence in (1, 3, 2):
        gateway.progress_hub.report(await progress(gateway, task_id, sequence))
    stream = asyncio.create_task(get_progress(gateway, task_id))
    await asyncio.wait_for(gateway.progress_hub.waiting.wait(), 5)
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    shown = [event.json() for event in sse(await stream) if event.event == "progress"]
    assert [event["sequence"] for event in shown] == [3]


async def test_streams_end_when_control_stops(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    stream = asyncio.create_task(get_progress(gateway, task_id))
    await asyncio.wait_for(gateway.progress_hub.waiting.wait(), 5)
    gateway.progress_hub.close()
    assert kinds(await asyncio.wait_for(stream, 5)) == ["create_task", "start_task"]


async def test_a_wrong_last_event_id_is_named(gateway: Gateway) -> None:
    answer = await get_progress(gateway, await gateway.create(), **{"Last-Event-ID": "latest"})
    assert (answer.status_code, fields(answer)) == (422, ["Last-Event-ID"])


OTHERS: list[dict[str, Any]] = [
    {"attempt": 2**31 - 1},
    {"iteration": 7},
    {"phase": Phase.TRAIN},
]


@pytest.mark.parametrize("other", [*OTHERS, {}], ids=["attempt", "iteration", "phase", "worker"])
async def test_only_the_progress_of_the_worker_that_runs_the_newest_attempt_is_shown(
    gateway: Gateway, other: dict[str, Any]
) -> None:
    task_id = await claimed(gateway)
    true = await progress(gateway, task_id)
    forged = {"key": true.key.model_copy(update=other), "sequence": 9}
    forger = "worker-1" if other else "a-stranger"
    gateway.progress_hub.report(true)
    gateway.progress_hub.report(true.model_copy(update={**forged, "worker_id": forger}))
    stream = asyncio.create_task(get_progress(gateway, task_id))
    await asyncio.wait_for(gateway.progress_hub.waiting.wait(), 5)
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    shown = [event.json() for event in sse(await stream) if event.event == "progress"]
    assert [(event["worker_id"], event["sequence"]) for event in shown] == [("worker-1", 1)]


async def test_progress_of_an_attempt_that_no_worker_has_claimed_is_not_shown(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    gateway.progress_hub.report(await progress(gateway, task_id))
    stream = asyncio.create_task(get_progress(gateway, task_id))
    await asyncio.wait_for(gateway.progress_hub.waiting.wait(), 5)
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    assert kinds(await asyncio.wait_for(stream, 5)) == ["create_task", "start_task", "cancel_task"]
