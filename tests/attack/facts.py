"""Forged facts, orders and signals about attempts that run."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

from contracts.leases import Claim, Heartbeat, LeaseRequest
from contracts.tasks import Phase
from contracts.topology import CLAIMS, EVENTS, PROGRESS, SIGNALS
from tests.attack.target import RECOVERY, Target, require
from tests.eventually import eventually

LONG = 3.0
"""Seconds of the training that is attacked."""
HISTORY_ROWS = 150
"""More rows than this are too many for a task of one iteration and any number of forged events."""


async def a_forged_model_of_a_running_training(target: Target) -> int:
    """A `model_trained` with the claim of the real worker and another base, which contains code."""
    task, claim = await _training(target)
    model = {"base": "path:/evil", "adapters": [], "trust_remote_code": True}
    forged = [
        _event(claim, "model_trained", model=model, steps=1),
        _event(claim, "model_trained", model={"base": "artifact:models/elsewhere/1/a1", "adapters": []}, steps=1),
    ]
    sent = await target.publish(EVENTS.name, "model_trained", forged)
    state = await target.ended(task)
    require("evil" not in json.dumps(state) and "elsewhere" not in json.dumps(state), "a forged model was used")
    require(state["status"] == "COMPLETED", f"the task ended {state['status']}")
    return sent


async def a_forged_fence_and_a_forged_cancel(target: Target) -> int:
    """Signals that stop a running attempt and do not come from control."""
    task, claim = await _training(target)
    verdicts = ("fenced", "cancelled", "pause") * 20
    bodies = [_body("attempt_signal", key=_key(claim), verdict=verdict) for verdict in verdicts]
    sent = await target.publish(SIGNALS.name, "", bodies)
    state = await target.ended(task)
    attempts = [row for row in await target.attempts(task) if row["phase"] == "train"]
    require(state["status"] == "COMPLETED", f"the task ended {state['status']}")
    require(len(attempts) == 1, f"a forged signal cost {len(attempts) - 1} attempts")
    return sent


async def a_forged_checkpoint(target: Target) -> int:
    """Heartbeats that name a checkpoint outside the attempt's own prefix."""
    task, claim = await _training(target)
    names = ("models/../../etc", "/etc/passwd", "models/other/1/a1/checkpoint-9", "x" * 900)
    bodies = [_heartbeat(claim, name) for name in names]
    sent = await target.publish(CLAIMS.name, "claim", bodies)
    state = await target.ended(task)
    require(state["status"] == "COMPLETED", f"the task ended {state['status']}")
    for row in await target.attempts(task):
        require(row["checkpoint"] not in names, f"the checkpoint {row['checkpoint']!r} was stored")
    return sent


async def forged_progress_from_the_future(target: Target) -> int:
    """Progress of an attempt that was never issued."""
    task, claim = await _training(target)
    key = {**_key(claim), "attempt": 2**31 - 1}
    progress = {"worker_id": "w", "sequence": 2**62, "stage": "forged", "done": 9, "total": 10, "metrics": {}}
    sent = await target.publish(PROGRESS.name, str(task), [_body("phase_progress", key=key, **progress)] * 50)
    async with target.client() as client:
        answer = await client.get(f"/api/tasks/{task}/progress")
    require("forged" not in answer.text, "forged progress of an attempt that does not exist was shown")
    await target.ended(task)
    return sent


async def a_thousand_forged_events_of_a_finished_task(target: Target) -> int:
    """Late events with large texts, which must not fill the history."""
    task, claim = await _training(target)
    await target.ended(task)
    failed = {"failure": "program_crashed", "message": "x" * 50_000}
    forged = []
    for attempt in range(1, 1001):
        body = json.loads(_event(claim, "phase_failed", **failed))
        forged.append(json.dumps({**body, "key": {**body["key"], "attempt": attempt}}).encode())
    sent = await target.publish(EVENTS.name, "phase_failed", forged)

    async def consumed() -> bool:
        return not await target.bus.depth("treadle.control")

    await eventually(consumed, "the forged events to be consumed", RECOVERY)
    (row,) = await target.database.fetch("SELECT count(*) AS rows FROM task_events WHERE task_id = $1", task)
    require(row["rows"] <= HISTORY_ROWS, f"{row['rows']} rows of history after {sent} forged events")
    return sent


async def _training(target: Target) -> tuple[UUID, Claim]:
    """A task whose training runs for LONG seconds from now on, and the claim of its worker."""
    claims = await target.claims()
    task = await target.submit(seconds=LONG)
    async with asyncio.timeout(RECOVERY):
        while True:
            request: LeaseRequest = await claims.get()
            for claim in request.claims:
                if claim.key.task_id == task and claim.key.phase is Phase.TRAIN:
                    return task, claim


def _key(claim: Claim) -> dict[str, Any]:
    key: dict[str, Any] = claim.key.model_dump(mode="json")
    return key


def _event(claim: Claim, kind: str, **fields: object) -> bytes:
    return _body(kind, key=_key(claim), claim_id=str(claim.claim_id), worker_id="w", **fields)


def _heartbeat(claim: Claim, checkpoint: str) -> bytes:
    heartbeat = Heartbeat(key=claim.key, claim_id=claim.claim_id).model_dump(mode="json")
    worker = {"worker_id": "w", "phase": "train", "host": "h", "slots": 1, "busy": 0}
    heartbeats = [{**heartbeat, "checkpoint": checkpoint}]
    return _body("lease_request", request_id=str(uuid4()), worker=worker, heartbeats=heartbeats)


def _body(kind: str, **fields: object) -> bytes:
    return json.dumps({"kind": kind, "version": 1, **fields}).encode()
