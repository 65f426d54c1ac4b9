"""The clock of an attempt: when it took too long, and when it made no progress."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from contracts.commands import PhaseCommand
from contracts.tasks import FailureKind
from infra.child.progress import ProgressLine
from infra.worker import limits as limits_module
from infra.worker.limits import TRANSFER_STEP, Limits, Stalled, TimedOut
from tests.fake_control import Script


class Clock:
    """The monotonic clock of a test."""

    seconds = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(limits_module, "time", SimpleNamespace(monotonic=lambda: moved.seconds))
    return moved


def limits(**fields: float) -> Limits:
    return Limits(cast("PhaseCommand", Script().command().model_copy(update=fields)))


def line(stage: str, done: int) -> ProgressLine:
    return ProgressLine(stage=stage, done=done)


async def test_an_attempt_without_limits_may_take_any_time() -> None:
    waiting = asyncio.create_task(limits().wait())
    done, _ = await asyncio.wait([waiting], timeout=0.02)
    assert not done
    waiting.cancel()


def test_an_attempt_that_takes_too_long_is_ended_although_it_makes_progress(clock: Clock) -> None:
    watched = limits(time_limit=100.0, stall_limit=60.0)
    for number in range(3):
        clock.seconds += 40
        watched.step(line("working", number))
    error = watched.error()
    assert error is not None and error.kind is FailureKind.TIMED_OUT
    assert str(error) == "the attempt took longer than its limit of 100 s; its last progress was: working 2"


@pytest.mark.parametrize("moves", ["stage", "done", "bytes"])
def test_any_progress_keeps_an_attempt_from_stalling(clock: Clock, moves: str) -> None:
    watched = limits(stall_limit=60.0)
    for number in range(5):
        clock.seconds += 59
        match moves:
            case "stage":
                watched.step(line(f"stage {number}", 0))
            case "done":
                watched.step(line("working", number))
            case _:
                watched.moved(1)
        assert watched.error() is None
    clock.seconds += 60
    assert isinstance(watched.error(), Stalled)


def test_a_program_that_transfers_much_makes_progress_and_one_that_logs_a_little_does_not(clock: Clock) -> None:
    transferred = 0
    watched = limits(stall_limit=60.0)
    watched.watch(lambda: transferred)
    for _ in range(3):
        clock.seconds += 60
        transferred += TRANSFER_STEP
        assert watched.error() is None
    clock.seconds += 60
    transferred += TRANSFER_STEP - 1
    assert isinstance(watched.error(), Stalled)


def test_what_a_program_transferred_before_its_last_report_does_not_count(clock: Clock) -> None:
    transferred = 0
    watched = limits(stall_limit=60.0)
    watched.watch(lambda: transferred)
    transferred = 10 * TRANSFER_STEP
    watched.step(line("working", 1))
    clock.seconds += 60
    assert isinstance(watched.error(), Stalled)


def test_a_repeated_line_is_no_progress(clock: Clock) -> None:
    watched = limits(stall_limit=60.0)
    for _ in range(3):
        watched.step(line("working", 7))
        clock.seconds += 30
    assert str(watched.error()) == "the attempt made no progress for 60 s; its last progress was: working 7"


async def test_the_end_of_an_attempt_is_awaited() -> None:
    watched = limits(stall_limit=0.02)
    assert isinstance(await watched.wait(), Stalled)
    assert isinstance(watched.exceeded, Stalled)


async def test_a_step_in_time_returns_its_result() -> None:
    assert await limits(time_limit=60.0).within(asyncio.sleep(0, "result")) == "result"


async def test_a_step_that_takes_too_long_is_cancelled() -> None:
    step = asyncio.create_task(asyncio.sleep(60))

    async def work() -> None:
        await step

    with pytest.raises(TimedOut):
        await limits(time_limit=0.02).within(work())
    assert step.cancelled()


async def test_a_step_that_cannot_be_cancelled_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "ABANDON_AFTER", 0.01)
    released = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await released.wait()

    with pytest.raises(Stalled):
        await limits(stall_limit=0.02).within(stubborn())
    released.set()


async def test_a_step_is_cancelled_with_the_attempt() -> None:
    step = asyncio.create_task(asyncio.sleep(60))

    async def work() -> None:
        await step

    working = asyncio.create_task(limits(time_limit=60.0).within(work()))
    await asyncio.sleep(0.01)
    working.cancel()
    await asyncio.wait([working])
    assert step.cancelled()


async def test_after_the_end_of_an_attempt_its_checkpoint_may_still_be_saved() -> None:
    clock = limits(time_limit=0.01, stall_limit=60.0)
    await clock.wait()
    clock.allow_ending()
    assert await clock.within(asyncio.sleep(0.02, "saved")) == "saved"
