"""A program that is a coroutine of the worker's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.artifacts import MANIFEST
from contracts.commands import TrainModel
from contracts.events import ModelTrained, PhaseFailed, PhasePaused
from contracts.leases import Verdict
from contracts.tasks import FailureKind
from infra.errors import BadInput
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.plan import Plan
from tests.fake_control import FakeControl, Script
from tests.integration.worker.conftest import Running
from tests.programs.scripted import Result, Spec

Ordered = Callable[[Callable[[Path], Awaitable[None]]], Awaitable[tuple[TrainModel, Any]]]


async def answers(folder: Path) -> None:
    (folder / "out" / "answer.txt").write_text("42")
    (folder / "result.json").write_text(Result(answer=42).model_dump_json())


async def finds_a_fault(folder: Path) -> None:
    raise BadInput("line 3 is no JSON", field="data.jsonl:3")


async def waits(folder: Path) -> None:
    await asyncio.Event().wait()


@pytest.fixture
async def ordered(
    control: FakeControl, script: Script, running: Running, worker_settings: Settings
) -> AsyncIterator[Ordered]:
    """Orders an attempt of a program; the command, and the event that it ended with."""
    programs: list[Callable[[Path], Awaitable[None]]] = []
    script.worker = replace(script.worker, plan=lambda command: Plan(programs[0], Spec(actions=[])))

    async def order(program: Callable[[Path], Awaitable[None]]) -> tuple[TrainModel, Any]:
        programs.append(program)
        command = script.command()
        await control.order(command)
        await control.until(lambda: control.events)
        return command, control.events[0]

    async with running(worker_settings):
        yield order


async def test_its_output_is_stored_and_reported_as_a_childs_is(ordered: Ordered, objects: ObjectStore) -> None:
    command, event = await ordered(answers)
    assert isinstance(event, ModelTrained)
    assert await objects.names(command.output) == [f"{command.output}/{name}" for name in (MANIFEST, "answer.txt")]


async def test_a_fault_that_it_finds_fails_the_attempt_with_its_kind(ordered: Ordered) -> None:
    _, event = await ordered(finds_a_fault)
    assert isinstance(event, PhaseFailed)
    assert (event.failure, event.field) == (FailureKind.BAD_INPUT, "data.jsonl:3")


async def test_a_pause_stops_it(ordered: Ordered, control: FakeControl) -> None:
    control.beat_verdict = Verdict.PAUSE
    _, event = await ordered(waits)
    assert isinstance(event, PhasePaused)
