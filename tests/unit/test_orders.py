"""A worker runs no command that names a place outside of those that control gives."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from contracts.commands import PhaseCommand, TrainModel
from contracts.errors import UndecodableMessage
from contracts.tasks import DatasetRef, DatasetRefs, ModelSource
from control.machine.commands import command_for, next_iteration
from control.machine.machine import advance
from infra.worker.orders import checked
from tests.build import TASK, completed, lost, own_checkpoint, started

ELSEWHERE = (
    "../../escaped",
    "models/../../etc",
    f"models/{TASK}/1/a1/..",
    f"models//{TASK}/1/a1",
    f"optimized/{uuid4()}/1/a1",
    f"optimized/{TASK}/9/a1",
    f"models/{TASK}/1/a9/x",
    "optimized",
    "/etc",
)


def command(phases: int) -> PhaseCommand:
    """The command after this number of phases."""
    task = started()
    for _ in range(phases):
        task = advance(task, completed(task)).task
        if task.phase is None:
            task = advance(task, next_iteration(task)).task
    return command_for(task)


@pytest.mark.parametrize("phases", range(6))
def test_every_command_of_control_is_run(phases: int) -> None:
    assert checked(command(phases)) == command(phases)


def test_a_training_goes_on_from_a_checkpoint_of_an_earlier_attempt() -> None:
    task = advance(started(), completed(started())).task
    checkpoint = own_checkpoint(task)
    again = command_for(advance(task, lost(task, checkpoint)).task)
    assert isinstance(again, TrainModel)
    assert checked(again).resume_from == checkpoint


def of(value: str, field: str) -> Any:
    """A value of the type of the field."""
    kinds = {"dataset": DatasetRef, "current": DatasetRef}
    return kinds[field](dataset_id="d", prefix=value) if field in kinds else value


@pytest.mark.parametrize("prefix", ELSEWHERE)
@pytest.mark.parametrize(
    ("phases", "field"),
    [
        (0, "output"),
        (1, "output"),
        (2, "output"),
        (3, "current"),
        (3, "splits"),
        (3, "report"),
        (1, "dataset"),
        (2, "splits"),
    ],
)
def test_another_place_is_refused_and_named(phases: int, field: str, prefix: str) -> None:
    forged = command(phases).model_copy(update={field: of(prefix, field)})
    with pytest.raises(UndecodableMessage, match=field) as caught:
        checked(forged)
    assert caught.value.errors[0].field.startswith(field)


@pytest.mark.parametrize("phases", [1, 2])
@pytest.mark.parametrize("prefix", [*ELSEWHERE, f"datasets/1/{TASK}"])
def test_a_layer_that_is_no_model_of_a_task_is_refused(phases: int, prefix: str) -> None:
    for model in (ModelSource(base=f"artifact:{prefix}"), ModelSource(base="path:/m", adapters=(prefix,))):
        with pytest.raises(UndecodableMessage, match="model"):
            checked(command(phases).model_copy(update={"model": model}))


@pytest.mark.parametrize("role", ["train", "dev", "test", "pool"])
@pytest.mark.parametrize(
    "prefix", ["datasets/2/d", "datasets/1", "datasets/1/..", "datasets/1/a/b", "datasets/1/a#b", f"models/{TASK}/1/a1"]
)
def test_a_dataset_that_is_not_the_users_is_refused(role: str, prefix: str) -> None:
    given = {"train": DatasetRef(dataset_id="raw", prefix="datasets/1/raw")}
    datasets = DatasetRefs(**{**given, role: DatasetRef(dataset_id="d", prefix=prefix)})
    with pytest.raises(UndecodableMessage, match=f"datasets.{role}"):
        checked(command(0).model_copy(update={"datasets": datasets}))


def test_an_optimized_dataset_of_another_task_may_be_given() -> None:
    datasets = DatasetRefs(train=DatasetRef(dataset_id="d", prefix=f"optimized/{uuid4()}/3/a2"))
    given = command(0).model_copy(update={"datasets": datasets})
    assert checked(given) == given


@pytest.mark.parametrize(
    "checkpoint",
    [
        "models/../../etc",
        f"models/{TASK}/1/a1/checkpoint--1",
        f"models/{uuid4()}/1/a1/checkpoint-5",
        f"models/{TASK}/2/a1/checkpoint-5",
        f"models/{TASK}/1/a2/checkpoint-5",
        f"optimized/{TASK}/1/a1/checkpoint-5",
    ],
)
def test_a_checkpoint_of_another_phase_costs_steps_only(checkpoint: str) -> None:
    plain = command(1)
    attempt = plain.key.model_copy(update={"attempt": 2})
    second = plain.model_copy(update={"key": attempt, "output": f"models/{TASK}/1/a2"})
    assert checked(second.model_copy(update={"resume_from": checkpoint})) == second
