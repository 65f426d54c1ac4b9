from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from contracts.leases import Claim, GpuState, Heartbeat, WorkerState
from contracts.notices import notice
from contracts.tasks import FailureKind, Phase
from contracts.topology import DEAD, SUBMISSIONS_QUEUE
from control.store.port import StoreUnavailable
from control.telemetry.worker_gauges import MAX_LABELLED
from infra.bus.inprocess import InProcessBus
from infra.bus.port import BusUnavailable, OutgoingMessage
from tests.build import CLAIM, completed, failed, key_of, own_checkpoint
from tests.gateway import CONTINUOUS, STANDARD, Gateway, fields
from tests.memory_store import MemoryStore

UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def claim(gateway: Gateway, task_id: object) -> None:
    task = (await gateway.store.task(task_id)).task
    worker = WorkerState(worker_id="worker-1", phase=task.key.phase, host="here", slots=1, busy=1)
    await gateway.store.lease(worker, [Claim(key=task.key, claim_id=CLAIM)], [])


async def complete_phase(gateway: Gateway, task_id: object, value: float = 0.5) -> None:
    await claim(gateway, task_id)
    await gateway.apply_event(completed((await gateway.store.task(task_id)).task, value))


async def test_a_standard_task_is_created_pending_in_camel_case(gateway: Gateway) -> None:
    answer = await gateway.http.post("/api/tasks/standard", json=STANDARD)
    assert answer.status_code == 201
    body = answer.json()
    assert body.items() >= {**STANDARD, "taskMode": "STANDARD", "status": "PENDING", "maxIterations": 1}.items()
    assert answer.headers["location"] == f"/api/tasks/{body['taskId']}"


async def test_a_continuous_task_keeps_its_stop_rules(gateway: Gateway) -> None:
    body = (await gateway.http.post("/api/tasks/continuous", json=CONTINUOUS)).json()
    assert body.items() >= {"taskMode": "CONTINUOUS", "maxIterations": 3, "performanceThreshold": 0.9}.items()


async def test_auto_start_starts(gateway: Gateway) -> None:
    body = (await gateway.http.post("/api/tasks/standard", json={**STANDARD, "autoStart": True})).json()
    assert (body["status"], body["phase"], body["attempt"]) == ("OPTIMIZING", "optimize", 1)


async def test_snake_case_is_accepted(gateway: Gateway) -> None:
    snake = {"task_name": "a task", "model_name": "/model", "dataset_id": "rows", "user_id": 1, "auto_start": True}
    answer = await gateway.http.post("/api/tasks/standard", json=snake)
    assert answer.json()["status"] == "OPTIMIZING"


@pytest.mark.parametrize("given", [{"learning_rate": 0.001}, '{"learning_rate": 0.001}', {"learningRate": 0.001}])
async def test_hyperparameters_are_an_object_or_a_json_string(gateway: Gateway, given: object) -> None:
    task_id = await gateway.create(hyperparameters=given)
    assert (await gateway.store.task(task_id)).task.spec.hyperparameters.learning_rate == 0.001


WRONG_BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("standard", {"taskName": ""}, "taskName"),
    ("standard", {"taskName": None}, "taskName"),
    ("standard", {"taskName": "nul\0"}, "taskName"),
    ("standard", {"modelName": "not a model"}, "modelName"),
    ("standard", {"modelName": f"task:{UNKNOWN}"}, "modelName"),
    ("standard", {"datasetId": "nowhere"}, "datasetId"),
    ("standard", {"userId": 2}, "datasetId"),
    ("standard", {"userId": 2**63}, "userId"),
    ("standard", {"poolDatasetId": "nowhere"}, "poolDatasetId"),
    ("standard", {"hyperparameters": {"learningRate": 7}}, "hyperparameters.learningRate"),
    ("standard", {"hyperparameters": '{"epochs": 0}'}, "hyperparameters.epochs"),
    ("standard", {"hyperparameters": "{"}, "hyperparameters"),
    ("standard", {"hyperparameters": {"epoch": 3}}, "hyperparameters.epoch"),
    ("standard", {"mode": "CONTINUOUS"}, "mode"),
    ("standard", {"maxIterations": 2}, "maxIterations"),
    ("continuous", {"performanceThreshold": 95}, "performanceThreshold"),
    ("continuous", {"performance_threshold": 95}, "performance_threshold"),
    ("continuous", {"maxIterations": 0}, "maxIterations"),
    ("continuous", {"optimization": {"labelBudget": -1}}, "optimization.labelBudget"),
]


@pytest.mark.parametrize(("mode", "wrong", "field"), WRONG_BODIES, ids=lambda value: str(value)[:40])
async def test_a_wrong_field_is_named(gateway: Gateway, mode: str, wrong: dict[str, Any], field: str) -> None:
    answer = await gateway.http.post(f"/api/tasks/{mode}", json={**STANDARD, **wrong})
    assert (answer.status_code, fields(answer)) == (422, [field])


async def test_an_infinite_budget_is_refused(gateway: Gateway) -> None:
    body = json.dumps({**STANDARD, "gpuSeconds": float("inf")})
    headers = {"content-type": "application/json"}
    answer = await gateway.http.post("/api/tasks/continuous", content=body, headers=headers)
    assert (answer.status_code, fields(answer)) == (422, ["gpuSeconds"])


async def test_true_is_not_a_number(gateway: Gateway) -> None:
    wrong = {"userId": True, "maxIterations": True, "seed": True, "hyperparameters": {"epochs": True}}
    answer = await gateway.http.post("/api/tasks/continuous", json={**STANDARD, **wrong})
    assert answer.status_code == 422
    assert set(fields(answer)) == {"userId", "maxIterations", "seed", "hyperparameters.epochs"}
    assert "maxIterations: Input should be a valid integer" in answer.json()["detail"]


async def test_every_missing_field_is_named(gateway: Gateway) -> None:
    answer = await gateway.http.post("/api/tasks/standard", json={})
    assert set(fields(answer)) == {"taskName", "modelName", "datasetId", "userId"}


@pytest.mark.parametrize(("body", "status"), [(b"{", 422), (b"[]", 422), (b"null", 422), (b"\xff", 422)])
async def test_a_body_that_is_not_a_json_object_is_a_problem(gateway: Gateway, body: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    answer = await gateway.http.post("/api/tasks/standard", content=body, headers=headers)
    assert (answer.status_code, fields(answer)) == (status, ["body"])


@pytest.mark.parametrize("action", ["standard", f"{UNKNOWN}/pause"])
async def test_another_content_type_is_415(gateway: Gateway, action: str) -> None:
    answer = await gateway.http.post(f"/api/tasks/{action}", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, fields(answer)) == (415, ["Content-Type"])


async def test_a_huge_body_is_413(gateway: Gateway) -> None:
    answer = await gateway.http.post("/api/tasks/standard", json={**STANDARD, "taskName": "x" * 2**21})
    assert (answer.status_code, fields(answer)) == (413, ["body"])


async def test_a_huge_body_without_a_length_is_413(gateway: Gateway) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b" " * 2**16

    headers = {"content-type": "application/json"}
    answer = await gateway.http.post("/api/tasks/standard", content=endless(), headers=headers)
    assert (answer.status_code, fields(answer)) == (413, ["body"])


async def test_the_same_key_and_body_return_the_same_task(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await gateway.http.post("/api/tasks/standard", json=STANDARD, headers=headers)
    again = await gateway.http.post("/api/tasks/standard", json=STANDARD, headers=headers)
    assert again.status_code == 201
    assert again.json()["taskId"] == first.json()["taskId"]


async def test_the_same_key_with_another_body_is_409(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "once"}
    await gateway.http.post("/api/tasks/standard", json=STANDARD, headers=headers)
    answer = await gateway.http.post("/api/tasks/standard", json={**STANDARD, "taskName": "b"}, headers=headers)
    assert (answer.status_code, fields(answer)) == (409, ["Idempotency-Key"])


async def test_an_empty_key_is_refused(gateway: Gateway) -> None:
    answer = await gateway.http.post("/api/tasks/standard", json=STANDARD, headers={"Idempotency-Key": ""})
    assert (answer.status_code, fields(answer)) == (422, ["Idempotency-Key"])


async def test_a_task_is_started_paused_resumed_and_cancelled(gateway: Gateway) -> None:
    task_id, statuses = await gateway.create(), []
    for action in ("start", "pause", "resume", "cancel"):
        answer = await gateway.http.post(f"/api/tasks/{task_id}/{action}")
        assert answer.status_code == 200, answer.text
        statuses.append(answer.json()["status"])
    assert statuses == ["OPTIMIZING", "SUSPENDED", "OPTIMIZING", "CANCELLED"]


async def test_the_reason_of_a_request_is_in_the_history(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    await gateway.http.post(f"/api/tasks/{task_id}/pause", json={"mode": "now", "reason": "maintenance"})
    row = (await gateway.http.get(f"/api/tasks/{task_id}/events")).json()[-1]
    assert (row["kind"], row["reason"], row["actor"]) == ("pause_task", "maintenance", "http")


async def test_auto_start_may_be_delayed(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True, startAfterSeconds=3600)
    waiting = (await gateway.http.get(f"/api/tasks/{task_id}")).json()["waiting"]
    assert (waiting["reason"], waiting["until"] is not None) == ("scheduled", True)


async def test_a_delay_without_auto_start_is_refused(gateway: Gateway) -> None:
    answer = await gateway.http.post("/api/tasks/standard", json={**STANDARD, "startAfterSeconds": 3600})
    assert fields(answer) == ["startAfterSeconds"]


@pytest.mark.parametrize("action", ["kick", "fail"])
async def test_a_kick_or_a_fail_without_a_reason_is_refused(gateway: Gateway, action: str) -> None:
    task_id = await gateway.create(autoStart=True)
    assert fields(await gateway.http.post(f"/api/tasks/{task_id}/{action}", json={})) == ["reason"]


@pytest.mark.parametrize("action", ["kick", "fail"])
async def test_a_request_for_another_attempt_is_409_and_names_the_present_one(gateway: Gateway, action: str) -> None:
    task_id = await gateway.create(autoStart=True)
    body = {"reason": "it is stuck", "attempt": "1/train/a1"}
    answer = await gateway.http.post(f"/api/tasks/{task_id}/{action}", json=body)
    assert (answer.status_code, fields(answer)) == (409, ["status"])
    assert "needs the task to be at attempt 1/train/a1, but it is at 1/optimize/a1" in answer.json()["detail"]


@pytest.mark.parametrize("action", ["kick", "fail"])
async def test_a_malformed_attempt_is_refused_with_the_expected_form(gateway: Gateway, action: str) -> None:
    task_id = await gateway.create(autoStart=True)
    body = {"reason": "it is stuck", "attempt": "training 1"}
    answer = await gateway.http.post(f"/api/tasks/{task_id}/{action}", json=body)
    assert (answer.status_code, fields(answer)) == (422, ["attempt"])
    assert "expected iteration/phase/aN, such as 1/train/a2" in answer.json()["detail"]


@pytest.mark.parametrize("action", ["kick", "fail", "pause"])
async def test_the_checkpoint_of_an_attempt_that_is_ended_by_hand_is_kept(gateway: Gateway, action: str) -> None:
    task_id = await gateway.create(autoStart=True)
    await claim(gateway, task_id)
    task = (await gateway.store.task(task_id)).task
    heartbeat = Heartbeat(key=key_of(task), claim_id=CLAIM, checkpoint=own_checkpoint(task))
    worker = WorkerState(worker_id="worker-1", phase=Phase.OPTIMIZE, host="here", slots=1, busy=1)
    await gateway.store.lease(worker, [], [heartbeat])
    body = {"reason": "it is stuck"} | ({"mode": "now"} if action == "pause" else {})
    await gateway.http.post(f"/api/tasks/{task_id}/{action}", json=body)
    assert (await gateway.store.task(task_id)).task.checkpoint == own_checkpoint(task)


async def test_a_listed_task_has_no_reason_for_waiting_and_no_notices(gateway: Gateway) -> None:
    await gateway.create()
    assert {"waiting", "notices"}.isdisjoint((await gateway.http.get("/api/tasks")).json()["items"][0])


async def test_a_task_says_how_many_lines_were_unreadable_as_soon_as_they_are_read(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    await claim(gateway, task_id)
    lines = notice("unreadable", 10, "10 of 20 lines are not JSON: a comma after the object", ["train/rows.jsonl:1"])
    await gateway.apply_event(completed((await gateway.store.task(task_id)).task, notices=(lines,)))
    assert (await gateway.http.get(f"/api/tasks/{task_id}")).json()["notices"] == [
        {"iteration": 1, "phase": "optimize", **lines.model_dump(mode="json")}
    ]


async def test_a_task_started_twice_is_409(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    answer = await gateway.http.post(f"/api/tasks/{task_id}/start")
    assert (answer.status_code, fields(answer)) == (409, ["status"])


async def test_a_failed_task_is_retried_from_an_earlier_phase(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    await complete_phase(gateway, task_id)
    await claim(gateway, task_id)
    await gateway.apply_event(failed((await gateway.store.task(task_id)).task, FailureKind.BAD_INPUT))
    answer = await gateway.http.post(f"/api/tasks/{task_id}/retry", json={"phase": "optimize"})
    assert (answer.json()["status"], answer.json()["attempt"]) == ("OPTIMIZING", 2)


@pytest.mark.parametrize("text", ["nul \0", "half a pair \ud800"])
async def test_a_reason_that_cannot_be_stored_is_refused(gateway: Gateway, text: str) -> None:
    task_id = await gateway.create(autoStart=True)
    body, headers = json.dumps({"reason": text}), {"content-type": "application/json"}
    answer = await gateway.http.post(f"/api/tasks/{task_id}/pause", content=body, headers=headers)
    assert (answer.status_code, fields(answer)) == (422, ["reason"])


@pytest.mark.parametrize("body", [{"mode": "gently"}, {"modus": "now"}])
async def test_a_wrong_pause_is_refused(gateway: Gateway, body: dict[str, str]) -> None:
    task_id = await gateway.create(autoStart=True)
    answer = await gateway.http.post(f"/api/tasks/{task_id}/pause", json=body)
    assert (answer.status_code, fields(answer)) == (422, list(body))


@pytest.mark.parametrize("path", ["", "/executions", "/events", "/progress"])
async def test_an_unknown_task_is_404(gateway: Gateway, path: str) -> None:
    answer = await gateway.http.get(f"/api/tasks/{uuid4()}{path}")
    assert (answer.status_code, fields(answer)) == (404, ["taskId"])


@pytest.mark.parametrize("action", ["start", "pause", "resume", "cancel", "retry"])
async def test_a_request_about_an_unknown_task_is_404(gateway: Gateway, action: str) -> None:
    answer = await gateway.http.post(f"/api/tasks/{uuid4()}/{action}")
    assert (answer.status_code, fields(answer)) == (404, ["taskId"])


async def test_an_id_that_is_not_a_uuid_is_named(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/tasks/seven")
    assert (answer.status_code, fields(answer)) == (422, ["taskId"])


async def test_an_unknown_dataset_is_404(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/datasets/nowhere")
    assert (answer.status_code, fields(answer)) == (404, ["datasetId"])


async def test_an_unknown_path_is_404(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/nothing")
    assert (answer.status_code, fields(answer)) == (404, ["path"])


async def test_a_wrong_method_is_405_and_names_the_right_one(gateway: Gateway) -> None:
    answer = await gateway.http.delete("/api/tasks")
    assert (answer.status_code, fields(answer), answer.headers["allow"]) == (405, ["method"], "GET")


async def test_tasks_are_listed_newest_first_in_pages(gateway: Gateway) -> None:
    ids = [str(await gateway.create(taskName=f"task {n}")) for n in range(3)]
    page = (await gateway.http.get("/api/tasks", params={"page": 2, "pageSize": 2})).json()
    assert [item["taskId"] for item in page["items"]] == ids[:1]
    assert (page["total"], page["page"], page["pageSize"]) == (3, 2, 2)


@pytest.mark.parametrize(
    ("query", "count"),
    [({"status": "OPTIMIZING"}, 1), ({"userId": 2}, 0), ({"mode": "CONTINUOUS"}, 1), ({"user_id": 1}, 2)],
)
async def test_tasks_are_filtered(gateway: Gateway, query: dict[str, Any], count: int) -> None:
    await gateway.create("standard", autoStart=True)
    await gateway.create("continuous")
    assert (await gateway.http.get("/api/tasks", params=query)).json()["total"] == count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page", 0),
        ("page", "1.0"),
        ("pageSize", 1000),
        ("userId", "1_0"),
        ("status", "RUNNING"),
        ("mode", "TWICE"),
        ("userId", "me"),
        ("colour", "red"),
    ],
)
async def test_a_wrong_filter_is_named(gateway: Gateway, name: str, value: object) -> None:
    answer = await gateway.http.get("/api/tasks", params={name: value})
    assert (answer.status_code, fields(answer)) == (422, [name])


async def test_lists_without_a_total_come_in_pages_too(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    await complete_phase(gateway, task_id, 0.75)
    for path in (f"/api/tasks/{task_id}/executions", "/api/datasets/user/1"):
        pages = [(await gateway.http.get(path, params={"page": page, "pageSize": 1})).json() for page in (1, 2, 3)]
        assert pages == [[entry] for entry in (await gateway.http.get(path)).json()] + [[]]
        answer = await gateway.http.get(path, params={"pageSize": 1001})
        assert (answer.status_code, fields(answer)) == (422, ["pageSize"])


async def test_executions_name_the_output_of_each_attempt(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    for _ in Phase:
        await complete_phase(gateway, task_id, 0.75)
    attempts = (await gateway.http.get(f"/api/tasks/{task_id}/executions")).json()
    assert [(attempt["phase"], attempt["status"], attempt["workerId"]) for attempt in attempts] == [
        ("optimization", "completed", "worker-1"),
        ("training", "completed", "worker-1"),
        ("evaluation", "completed", "worker-1"),
    ]
    assert (attempts[0]["inputDatasetId"], attempts[0]["outputDatasetId"]) == ("rows", f"{task_id}-1-a1")
    assert (attempts[1]["modelPath"], attempts[2]["evaluationPath"], attempts[2]["score"]) == (
        f"models/{task_id}/1/a1",
        f"evaluations/{task_id}/1/a1",
        0.75,
    )


async def test_a_finished_task_shows_its_result(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    for _ in Phase:
        await complete_phase(gateway, task_id, 0.75)
    body = (await gateway.http.get(f"/api/tasks/{task_id}")).json()
    assert body.items() >= {"status": "COMPLETED", "reason": "once_through", "latestScore": 0.75}.items()
    own = {"currentDatasetId": f"{task_id}-1-a1", "latestModelPath": f"models/{task_id}/1/a1"}
    assert body.items() >= {**own, "bestIteration": 1}.items()


async def test_the_history_continues_after_an_id(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    rows = (await gateway.http.get(f"/api/tasks/{task_id}/events")).json()
    rest = (await gateway.http.get(f"/api/tasks/{task_id}/events", params={"after": rows[0]["id"]})).json()
    assert rest == rows[1:] != []


async def test_healthz_is_alive(gateway: Gateway) -> None:
    assert (await gateway.http.get("/healthz")).json() == {"status": "alive"}


async def test_readyz_is_ready_if_nothing_is_missing(gateway: Gateway) -> None:
    assert (await gateway.http.get("/readyz")).json() == {"status": "ready"}


async def test_readyz_names_what_is_not_ready(gateway: Gateway) -> None:
    gateway.missing["consumer:events"] = "not attached"
    answer = await gateway.http.get("/readyz")
    assert (answer.status_code, fields(answer)) == (503, ["consumer:events"])


async def test_metrics_count_tasks_by_status(gateway: Gateway) -> None:
    await gateway.create(autoStart=True)
    assert 'treadle_tasks{status="OPTIMIZING"} 1.0' in (await gateway.http.get("/metrics")).text


async def test_metrics_count_free_slots(gateway: Gateway) -> None:
    worker = WorkerState(worker_id="w", phase=Phase.TRAIN, host="here", slots=3, busy=1)
    await gateway.store.lease(worker, [], [])
    assert 'treadle_worker_slots{phase="train",state="free"} 2.0' in (await gateway.http.get("/metrics")).text


async def test_workers_are_listed_with_the_state_of_their_machines(gateway: Gateway) -> None:
    gpu = GpuState(name="a GPU", utilization=0.5, memory_used=1, memory_total=2, temperature=61.0)
    worker = WorkerState(worker_id="w", phase=Phase.TRAIN, host="here", slots=3, busy=1, free_disk=5, gpus=(gpu,))
    await gateway.store.lease(worker.model_copy(update={"unfit": "has no room"}), [], [])
    (listed,) = (await gateway.http.get("/api/workers")).json()
    assert (listed["workerId"], listed["freeDisk"], listed["unfit"]) == ("w", 5, "has no room")
    assert listed["gpus"][0]["memoryTotal"] == 2


async def test_metrics_tell_the_state_of_each_machine_while_its_worker_is_there(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = GpuState(name="a GPU", utilization=0.5, memory_used=1, memory_total=2, temperature=61.0)
    worker = WorkerState(worker_id="w", phase=Phase.TRAIN, host="here", slots=3, busy=1, free_disk=5, gpus=(gpu,))
    await gateway.store.lease(worker.model_copy(update={"unfit": "has no room"}), [], [])
    expected = {
        'treadle_workers_unfit{phase="train"} 1.0',
        'treadle_worker_free_disk_bytes{worker="w"} 5.0',
        'treadle_worker_gpu_utilization_ratio{gpu="0",worker="w"} 0.5',
        'treadle_worker_gpu_memory_used_bytes{gpu="0",worker="w"} 1.0',
        'treadle_worker_gpu_memory_bytes{gpu="0",worker="w"} 2.0',
        'treadle_worker_gpu_temperature_celsius{gpu="0",worker="w"} 61.0',
        'treadle_worker_slots{phase="train",state="free"} 0.0',
    }
    assert expected <= set((await gateway.http.get("/metrics")).text.splitlines())
    monkeypatch.setattr(MemoryStore, "workers", no_workers)
    assert 'worker="w"' not in (await gateway.http.get("/metrics")).text


async def test_metrics_have_series_of_a_limited_number_of_workers(gateway: Gateway) -> None:
    for number in range(MAX_LABELLED + 5):
        worker = WorkerState(worker_id=f"w-{number}", phase=Phase.TRAIN, host="h", slots=1, busy=0, free_disk=5)
        await gateway.store.lease(worker, [], [])
    lines = (await gateway.http.get("/metrics")).text.splitlines()
    assert sum(line.startswith("treadle_worker_free_disk_bytes{") for line in lines) == MAX_LABELLED
    assert f'treadle_worker_slots{{phase="train",state="free"}} {MAX_LABELLED + 5}.0' in lines


async def test_the_limits_of_a_task_reach_its_commands(gateway: Gateway) -> None:
    await gateway.create(autoStart=True, limits={"optimizeSeconds": 60, "stallSeconds": None})
    (entry,) = gateway.store.tables.outbox.values()
    command = json.loads(entry.row.body)
    assert (command["time_limit"], command["stall_limit"]) == (60.0, None)


async def test_metrics_count_dead_letters(gateway: Gateway) -> None:
    await gateway.bus.publish(OutgoingMessage(DEAD.name, "treadle.control", b"?", "some-id"))
    assert "treadle_dead_letters 1.0" in (await gateway.http.get("/metrics")).text


async def test_metrics_are_served_while_the_broker_is_away(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InProcessBus, "depth", bus_away)
    assert "treadle_bus_up 0.0" in (await gateway.http.get("/metrics")).text


async def test_metrics_are_served_while_the_database_is_away(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "counts", away)
    assert "treadle_store_up 0.0" in (await gateway.http.get("/metrics")).text


async def test_a_database_that_is_away_is_503(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "tasks", away)
    answer = await gateway.http.get("/api/tasks")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_bug_is_500_without_a_traceback(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "tasks", broken)
    answer = await gateway.http.get("/api/tasks")
    assert (answer.status_code, fields(answer)) == (500, [])
    assert "secret" not in answer.text


async def test_the_api_is_described(gateway: Gateway) -> None:
    paths = (await gateway.http.get("/openapi.json")).json()["paths"]
    assert {"/api/tasks/standard", "/api/tasks/{taskId}/progress", "/api/datasets/upload"} <= paths.keys()


async def away(*_: object) -> None:
    raise StoreUnavailable("the database is away")


async def no_workers(*_: object) -> list[WorkerState]:
    return []


async def bus_away(*_: object) -> None:
    raise BusUnavailable("the broker is away")


async def broken(*_: object) -> None:
    raise ZeroDivisionError("a secret detail")


async def test_the_asyncapi_document_of_the_submissions_is_served(gateway: Gateway) -> None:
    document = (await gateway.http.get("/asyncapi.json")).json()
    assert document["asyncapi"].startswith("3.")
    assert SUBMISSIONS_QUEUE.name in document["channels"]
