"""No fact that a task will use is taken from an event that differs from what control ordered."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from contracts.artifacts import attempt_prefix
from contracts.events import DataOptimized, LeaseLost, ModelTrained, PhaseEvent
from contracts.options import Hyperparameters, Method, Metric, OptimizationOptions, Stage, StopRules
from contracts.tasks import DatasetRef, ModelSource, Phase, TaskMode
from control.machine.commands import next_iteration
from control.machine.facts import NotOrdered, own_checkpoint, require_ordered
from control.machine.machine import advance
from control.machine.task import Task
from tests import build
from tests.build import complete, completed, failed, key_of, lost, paused, score, started

STORABLE = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
PREFIXES = st.text(STORABLE, min_size=1, max_size=60) | st.sampled_from(
    ("models/../../etc", "optimized", "artifact:models", "datasets/1/raw", f"models/{uuid4()}/1/a1", "path:/evil")
)


def at(phases: int, **spec: Any) -> Task:
    """A task that has completed this number of phases."""
    task = started(TaskMode.CONTINUOUS, **spec)
    for _ in range(phases):
        task = advance(task, completed(task)).task
        if task.phase is None:
            task = advance(task, next_iteration(task)).task
    return task


def change(event: PhaseEvent | LeaseLost, field: str, value: object) -> Any:
    """The event with another value in one field, `outer.inner` for a field of a field."""
    outer, _, inner = field.partition(".")
    changed = getattr(event, outer).model_copy(update={inner: value}) if inner else value
    return event.model_copy(update={outer: changed})


@pytest.mark.parametrize("phases", range(7))
@pytest.mark.parametrize("method", Method)
def test_what_control_ordered_is_accepted_in_every_phase_and_iteration(phases: int, method: Method) -> None:
    task = at(phases, hyperparameters=Hyperparameters(method=method))
    require_ordered(task, completed(task))


DERIVED = [
    (0, "dataset.prefix"),
    (0, "dataset.dataset_id"),
    (0, "splits"),
    (3, "splits"),
    (1, "model.base"),
    (2, "report"),
    (5, "report"),
]


@pytest.mark.parametrize(("phases", "field"), DERIVED)
@examples(max_examples=30)
@given(value=PREFIXES)
def test_another_place_in_a_completion_is_refused(phases: int, field: str, value: str) -> None:
    task = at(phases)
    event = completed(task)
    forged = change(event, field, value)
    if forged != event:
        with pytest.raises(NotOrdered, match=field.partition(".")[0]):
            require_ordered(task, forged)


def test_a_later_iteration_cannot_bring_splits_of_its_own() -> None:
    task = at(3)
    event = completed(task)
    with pytest.raises(NotOrdered, match="splits is"):
        require_ordered(task, change(event, "splits", attempt_prefix(event.key)))


@examples(max_examples=30)
@given(adapters=st.lists(PREFIXES, max_size=3))
def test_other_adapters_in_a_completion_are_refused(adapters: list[str]) -> None:
    task = at(1)
    event = completed(task)
    forged = change(event, "model.adapters", tuple(adapters))
    with pytest.raises(NotOrdered, match="model is"):
        require_ordered(task, forged)


@pytest.mark.parametrize("end", [failed, lost, paused])
@examples(max_examples=30)
@given(value=PREFIXES)
def test_a_checkpoint_of_no_attempt_is_refused(end: Any, value: str) -> None:
    task = at(1)
    with pytest.raises(NotOrdered, match="checkpoint"):
        require_ordered(task, end(task, checkpoint=value))


@pytest.mark.parametrize(
    "name", ["checkpoint-", "checkpoint--1", "checkpoint-x", "checkpoint-5/", "checkpoint-5/..", "other-5", ""]
)
def test_a_checkpoint_has_a_number(name: str) -> None:
    key = key_of(at(1))
    assert own_checkpoint(key, f"{attempt_prefix(key)}/{name}") is None


@pytest.mark.parametrize("other", [{"attempt": 2}, {"iteration": 2}, {"phase": Phase.EVALUATE}, {"task_id": uuid4()}])
def test_a_checkpoint_of_another_attempt_is_not_this_ones(other: dict[str, Any]) -> None:
    key = key_of(at(1))
    assert own_checkpoint(key, f"{attempt_prefix(key.model_copy(update=other))}/checkpoint-5") is None


@pytest.mark.parametrize("end", [failed, lost, paused])
def test_an_attempts_own_checkpoint_is_accepted(end: Any) -> None:
    task = at(1)
    require_ordered(task, end(task, checkpoint=build.own_checkpoint(task)))
    require_ordered(task, end(task, checkpoint=None))


def test_an_adapter_that_names_its_base_itself_is_a_model_of_its_own() -> None:
    task = at(1)
    own = ModelSource(base=f"artifact:{build.own_prefix(task)}")
    require_ordered(task, completed(task, model=own))


def test_a_full_training_gives_no_adapter() -> None:
    task = at(1, hyperparameters=Hyperparameters(method=Method.FULL))
    adapter = ModelSource(base="path:/model", adapters=(build.own_prefix(task),))
    with pytest.raises(NotOrdered):
        require_ordered(task, completed(task, model=adapter))


def test_more_labels_than_the_command_allows_are_refused() -> None:
    task = at(3, optimization=OptimizationOptions(label_budget=5), stop=StopRules(labels=3))
    require_ordered(task, completed(task, labels=3))
    with pytest.raises(NotOrdered, match="labels is 4, but its command allows only 0 to 3"):
        require_ordered(task, completed(task, labels=4))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_score_of_another_metric_is_refused(split: str) -> None:
    task = at(2)
    other = score(0.5).model_copy(update={"metric": Metric.TOKEN_F1})
    with pytest.raises(NotOrdered, match=f"{split}.metric"):
        require_ordered(task, completed(task, **{split: other}))


def test_the_metric_follows_the_stage() -> None:
    task = at(2, hyperparameters=Hyperparameters(stage=Stage.PT))
    require_ordered(task, completed(task, dev=score(0.5).model_copy(update={"metric": Metric.PERPLEXITY})))


def test_a_next_iteration_that_was_not_issued_yet_is_refused() -> None:
    looping = complete(started(), 3)
    require_ordered(looping, next_iteration(looping))
    with pytest.raises(NotOrdered, match="issued"):
        require_ordered(looping, next_iteration(looping).model_copy(update={"issued": looping.version + 1}))


def test_an_event_about_another_attempt_is_left_to_the_machine() -> None:
    task = at(1)
    key = key_of(task).model_copy(update={"attempt": 9})
    require_ordered(task, completed(task).model_copy(update={"key": key, "model": ModelSource(base="path:/evil")}))


def test_a_wrong_value_is_shown_in_part() -> None:
    task = at(0)
    with pytest.raises(NotOrdered) as caught:
        require_ordered(task, completed(task, splits="x" * 1000))
    assert len(str(caught.value)) < 400


def test_an_event_of_an_earlier_version_loses_its_wish_to_run_code() -> None:
    body = completed(at(1)).model_dump(mode="json")
    body["model"]["trust_remote_code"] = True
    event = ModelTrained.model_validate(body)
    assert event == completed(at(1))
    assert "trust_remote_code" not in event.model_dump_json()


def test_a_dataset_is_compared_as_a_whole() -> None:
    task = at(0)
    event = completed(task)
    assert isinstance(event, DataOptimized)
    other = DatasetRef(dataset_id=event.dataset.dataset_id, prefix="optimized/elsewhere")
    with pytest.raises(NotOrdered, match="optimized/elsewhere"):
        require_ordered(task, completed(task, dataset=other))
