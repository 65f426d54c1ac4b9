"""The table of permissions: which names and routing keys the expressions of each role match."""

from __future__ import annotations

import re
from typing import get_args
from uuid import uuid4

import pytest

from contracts.events import DataOptimized, ModelEvaluated, ModelTrained, NextIteration, PhaseFailed, WorkerEvent
from contracts.permissions import (
    ANYTHING,
    DEFAULT_EXCHANGE,
    PERMISSIONS,
    TOPIC_EXCHANGES,
    queue_of_dead_letter,
    routing_key_of,
)
from contracts.roles import Role
from contracts.tasks import AttemptKey, FailureKind, Phase
from contracts.topology import EVENTS, EXCHANGES, PHASE_QUEUES, QUEUES

NAMES = {*(exchange.name for exchange in EXCHANGES), *(queue.name for queue in QUEUES), DEFAULT_EXCHANGE, "amq.gen-x"}
LIMITED = [role for role in Role if role is not Role.CONTROL]
KINDS = [event.model_fields["kind"].default for event in (*get_args(WorkerEvent), NextIteration)]
EVENT_KEYS = {*KINDS, *(f"{kind}.{phase}" for kind in KINDS for phase in Phase)}


def matched(expression: str, names: set[str] = NAMES) -> set[str]:
    return {name for name in names if re.search(expression, name)}


@pytest.mark.parametrize("role", Role)
def test_only_control_may_publish_to_the_default_exchange(role: Role) -> None:
    assert (DEFAULT_EXCHANGE in matched(PERMISSIONS[role].write)) is (role is Role.CONTROL)


@pytest.mark.parametrize("role", LIMITED)
def test_a_limited_role_may_declare_and_delete_no_more_than_private_queues(role: Role) -> None:
    assert matched(PERMISSIONS[role].configure) <= {"amq.gen-x"}


@pytest.mark.parametrize("phase", Phase)
def test_a_worker_may_read_its_own_queue_signals_and_its_private_queues(phase: Phase) -> None:
    expected = {PHASE_QUEUES[phase].name, "treadle.signals", "amq.gen-x"}

    assert matched(PERMISSIONS[Role(phase.worker)].read) == expected


def test_a_client_may_write_tasks_and_nothing_else() -> None:
    client = PERMISSIONS[Role.CLIENT]

    assert (matched(client.configure), matched(client.write), matched(client.read)) == (set(), {"treadle.tasks"}, set())


@pytest.mark.parametrize("role", Role)
def test_each_role_has_a_topic_permission_for_each_topic_exchange(role: Role) -> None:
    """Without one, RabbitMQ allows every routing key."""
    assert [topic.exchange for topic in PERMISSIONS[role].topics] == [exchange.name for exchange in TOPIC_EXCHANGES]


@pytest.mark.parametrize(
    ("role", "keys"),
    [
        (Role.OPTIMIZER, {"data_optimized", "phase_failed.optimize", "phase_paused.optimize"}),
        (Role.TRAINER, {"model_trained", "phase_failed.train", "phase_paused.train"}),
        (Role.EVALUATOR, {"model_evaluated", "phase_failed.evaluate", "phase_paused.evaluate"}),
        (Role.CLIENT, set()),
    ],
)
def test_a_worker_may_publish_the_events_of_its_phase_only(role: Role, keys: set[str]) -> None:
    (expression,) = [topic.write for topic in PERMISSIONS[role].topics if topic.exchange == EVENTS.name]

    assert matched(expression, EVENT_KEYS) == keys


@pytest.mark.parametrize("role", LIMITED)
def test_no_expression_of_a_limited_role_matches_everything(role: Role) -> None:
    permissions = PERMISSIONS[role]
    expressions = [permissions.configure, permissions.write, permissions.read]
    expressions += [expression for topic in permissions.topics for expression in (topic.write, topic.read)]

    assert ANYTHING not in expressions
    assert [expression for expression in expressions if re.search(expression, "anything at all")] == []


@pytest.mark.parametrize("phase", Phase)
def test_an_event_that_all_phases_share_has_its_phase_in_the_routing_key(phase: Phase) -> None:
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=phase, attempt=1)
    event = PhaseFailed(key=key, claim_id=uuid4(), worker_id="w", failure=FailureKind.PROGRAM_CRASHED, message="")

    assert routing_key_of(event) == f"phase_failed.{phase}"
    assert re.search(PERMISSIONS[Role(phase.worker)].topics[1].write, routing_key_of(event))


def test_the_kind_is_the_routing_key_of_an_event_of_one_phase() -> None:
    for event in (DataOptimized, ModelTrained, ModelEvaluated, NextIteration):
        assert routing_key_of(event.model_construct()) == event.model_fields["kind"].default


def test_a_workers_dead_letters_belong_to_its_queue() -> None:
    assert [queue_of_dead_letter(key) for key in ("train", "treadle.train", "create_task")] == [
        "treadle.train",
        "treadle.train",
        None,
    ]
