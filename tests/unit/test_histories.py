"""Replay of histories that earlier versions recorded: they give the same states and the same messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest

from contracts.events import Event
from contracts.submissions import TaskRequest
from contracts.tasks import TaskSpec
from contracts.wire import decode
from control.machine.machine import Transition
from control.machine.task import Task
from control.store.rows import TASK
from tests.build import fold
from tests.histories.record import FOLDER, SCENARIOS, record, standard

EVENTS = (*get_args(Event), *get_args(TaskRequest))
HISTORIES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_recorded_history_folds_to_the_same_states_and_orders(path: Path) -> None:
    history = json.loads(path.read_bytes())
    created = {"task_id": history["task_id"], "spec": history["spec"]}
    spec = TaskSpec.model_validate_json(json.dumps(history["spec"]))
    events = tuple(decode(json.dumps(step["event"]).encode(), *EVENTS) for step in history["steps"])
    steps: list[Transition] = []
    fold(Task(UUID(history["task_id"]), spec), events, steps.append)
    for number, (step, recorded) in enumerate(zip(steps, history["steps"], strict=True)):
        expected = TASK.validate_json(json.dumps({**created, **recorded["state"]}))
        messages = [str(order.message.message_id) for order in step.messages]
        assert (step.task, messages) == (expected, recorded["orders"]), f"step {number}: {recorded['event']['kind']}"


def test_every_scenario_is_recorded() -> None:
    assert {scenario.__name__ for scenario in SCENARIOS} <= {path.stem for path in HISTORIES}


def test_a_recorded_history_is_never_written_again(tmp_path: Path) -> None:
    path = record(standard, tmp_path)
    assert path is not None
    path.write_text("as it was")
    assert record(standard, tmp_path) is None
    assert path.read_text() == "as it was"
