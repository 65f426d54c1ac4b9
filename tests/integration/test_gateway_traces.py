"""The overhead of a task and the trace of an iteration, over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.leases import Claim, WorkerState
from contracts.submissions import KickTask, PauseTask
from contracts.tasks import Phase
from control.machine.commands import next_iteration
from control.telemetry.spans import iteration_context, phase_context
from tests.build import CLAIM, completed, key_of
from tests.conformance.stores import Clock
from tests.gateway import Gateway, fields


class Loop:
    """A task on a gateway whose clock a test moves."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.clock = Clock()
        gateway.store._clock = self.clock

    async def create(self, **more: object) -> UUID:
        self.task_id = await self.gateway.create("continuous", maxIterations=3, autoStart=True, **more)
        return self.task_id

    async def claim(self) -> None:
        key = key_of((await self.gateway.store.task(self.task_id)).task)
        worker = WorkerState(worker_id="worker-1", phase=key.phase, host="here", slots=1, busy=1)
        await self.gateway.store.lease(worker, [Claim(key=key, claim_id=CLAIM)], ())

    async def complete(self, *, wait: float = 1.0, run: float = 9.0, work: float = 8.0) -> None:
        """Let the present attempt wait, run and complete."""
        self.clock.at += timedelta(seconds=wait)
        await self.claim()
        self.clock.at += timedelta(seconds=run)
        task = (await self.gateway.store.task(self.task_id)).task
        await self.gateway.apply_event(completed(task, work_seconds=work))

    async def get(self, path: str = "") -> dict[str, Any]:
        answer = await self.gateway.http.get(f"/api/tasks/{self.task_id}{path}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


@pytest.fixture
def loop(gateway: Gateway) -> Loop:
    return Loop(gateway)


async def test_a_task_has_no_overhead_before_its_first_attempt_has_ended(loop: Loop) -> None:
    await loop.create()
    await loop.claim()
    task = await loop.get()
    assert [task[name] for name in ("overhead", "workSeconds", "wallSeconds")] == [None, None, None]


async def test_a_task_shows_its_work_its_wall_clock_and_its_overhead(loop: Loop) -> None:
    await loop.create()
    await loop.complete()
    await loop.complete(work=7)
    task = await loop.get()
    shown = {name: pytest.approx(task[name], abs=0.01) for name in ("workSeconds", "wallSeconds", "overhead")}
    assert shown == {"workSeconds": 15, "wallSeconds": 20, "overhead": 0.25}
    assert task["unreportedSeconds"] == 0


async def test_a_pause_is_not_in_the_wall_clock_over_http(loop: Loop) -> None:
    await loop.create()
    await loop.complete()
    await loop.gateway.apply_event(PauseTask(task_id=loop.task_id))
    loop.clock.at += timedelta(seconds=1000)
    await loop.gateway.http.post(f"/api/tasks/{loop.task_id}/resume")
    await loop.complete()
    assert (await loop.get())["wallSeconds"] == pytest.approx(20, abs=0.1)


async def test_an_execution_shows_its_work_once_it_has_reported_it(loop: Loop) -> None:
    await loop.create()
    await loop.complete()
    await loop.claim()
    await loop.gateway.apply_event(KickTask(task_id=loop.task_id, reason="stuck"))
    answer = await loop.gateway.http.get(f"/api/tasks/{loop.task_id}/executions")
    assert [attempt["workSeconds"] for attempt in answer.json()] == [8.0, None, None]


async def test_a_trace_has_the_ids_that_a_collector_has(loop: Loop) -> None:
    await loop.create()
    await loop.complete()
    trace = await loop.get("/iterations/1/trace")
    key = key_of((await loop.gateway.store.task(loop.task_id)).task).model_copy(
        update={"phase": Phase.OPTIMIZE, "attempt": 1}
    )
    context = iteration_context(loop.task_id, 1)
    assert (trace["traceId"], trace["spanId"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert trace["spans"][0]["spanId"] == f"{phase_context(key).span_id:016x}"
    assert {span["parentSpanId"] for span in trace["spans"]} == {trace["spanId"]}


async def test_a_trace_shows_the_attempts_of_its_iteration_only(loop: Loop) -> None:
    await loop.create()
    for _ in Phase:
        await loop.complete()
    task = (await loop.gateway.store.task(loop.task_id)).task
    await loop.gateway.apply_event(next_iteration(task))
    await loop.complete()
    first, second = [await loop.get(f"/iterations/{number}/trace") for number in (1, 2)]
    assert [span["name"] for span in first["spans"]] == ["phase optimize", "phase train", "phase evaluate"]
    assert [span["status"] for span in second["spans"]] == ["completed", "dispatched"]
    assert (first["endedAt"] is None, second["endedAt"] is None) == (False, True)
    assert (first["iteration"], first["iterations"]) == (1, 2)


async def test_an_iteration_that_does_not_exist_is_404_and_names_those_that_do(loop: Loop) -> None:
    await loop.create()
    answer = await loop.gateway.http.get(f"/api/tasks/{loop.task_id}/iterations/7/trace")
    assert (answer.status_code, fields(answer)) == (404, ["iteration"])
    assert "no iteration 7; it has iteration 1" in answer.json()["detail"]


async def test_a_task_that_has_not_started_has_no_trace(gateway: Gateway) -> None:
    task_id = await gateway.create()
    answer = await gateway.http.get(f"/api/tasks/{task_id}/iterations/1/trace")
    assert (answer.status_code, fields(answer)) == (404, ["iteration"])
    assert "has not started" in answer.json()["detail"]


async def test_the_trace_of_an_unknown_task_is_404(gateway: Gateway) -> None:
    answer = await gateway.http.get(f"/api/tasks/{uuid4()}/iterations/1/trace")
    assert (answer.status_code, fields(answer)) == (404, ["taskId"])


@pytest.mark.parametrize("iteration", ["0", "-1", "1.0", "one", str(2**31)])
async def test_an_iteration_that_is_no_number_is_refused(gateway: Gateway, iteration: str) -> None:
    task_id = await gateway.create(autoStart=True)
    answer = await gateway.http.get(f"/api/tasks/{task_id}/iterations/{iteration}/trace")
    assert (answer.status_code, fields(answer)) == (422, ["iteration"])
