"""When a worker takes commands, and when it rests."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from contracts.events import ModelTrained, PhaseFailed, PhasePaused, WorkerEvent
from contracts.tasks import AttemptKey, FailureKind, ModelSource, Phase
from infra.worker import fitness as fitness_module
from infra.worker.fitness import CRASHES_BEFORE_REST, FIRST_REST, LONGEST_REST, Fitness
from infra.worker.gpus import GpuReader
from tests.build import CLAIM
from tests.eventually import eventually

FULL = "has 5 MiB free in /work, needs 1 GiB"


class FakeDisks:
    """Disks whose problem the test sets."""

    folder = Path("/work")

    def __init__(self) -> None:
        self.found: str | None = None
        self.write: str | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.calls = 0

    def free(self) -> int:
        return 5

    def problem(self, *, was_full: bool = False) -> str | None:
        return self.found

    def write_problem(self) -> str | None:
        self.calls += 1
        self.may_answer.wait()
        return self.write


class Bench:
    """A fitness with disks, a program and a clock that the test controls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, needs_gpu: bool = True) -> None:
        self.disks = FakeDisks()
        self.program: str | None = None
        self.probes = 0
        self.changes: list[str | None] = []
        self.seconds = 1000.0
        self.gpus = GpuReader()
        monkeypatch.setattr(fitness_module, "time", SimpleNamespace(monotonic=lambda: self.seconds))
        disks: Any = self.disks
        self.fitness = Fitness(disks, self.gpus, self._probe, self._changed, needs_gpu=needs_gpu)

    async def _probe(self) -> str | None:
        self.probes += 1
        return self.program

    async def _changed(self, unfit: str | None) -> None:
        self.changes.append(unfit)

    async def ended(self, event: WorkerEvent) -> None:
        """Let an attempt end."""
        self.fitness.record(event)
        await self.fitness.verify()

    async def after(self, seconds: float) -> str | None:
        """The reason why the worker is unfit at a check after some time."""
        self.seconds += seconds
        await self.fitness.check()
        return self.fitness.unfit


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def key() -> AttemptKey:
    return AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)


def failure(kind: FailureKind, of: AttemptKey | None = None) -> PhaseFailed:
    return PhaseFailed(key=of or key(), claim_id=CLAIM, worker_id="w", failure=kind, message="it broke")


def success() -> ModelTrained:
    return ModelTrained(key=key(), claim_id=CLAIM, worker_id="w", model=ModelSource(base="path:/m"), steps=1)


async def test_a_full_disk_makes_a_worker_unfit_until_there_is_room(bench: Bench) -> None:
    bench.disks.found = FULL
    assert await bench.fitness.check() == bench.fitness.unfit == FULL
    assert not bench.fitness.may_claim()
    bench.disks.found = None
    assert await bench.fitness.check() is None
    assert bench.fitness.may_claim()
    assert bench.changes == [FULL, None]


async def test_a_change_is_logged_once(bench: Bench) -> None:
    with capture_logs() as logs:
        for found in (None, FULL, FULL.replace("5", "4"), None, None):
            bench.disks.found = found
            await bench.fitness.check()
    assert [line["event"] for line in logs] == ["worker_unfit", "worker_fit_again"]


async def test_room_is_checked_at_each_claim(bench: Bench) -> None:
    await bench.fitness.check()
    bench.disks.found = FULL
    assert not bench.fitness.may_claim()


async def test_a_worker_that_refused_a_command_consumes_again_although_the_next_check_finds_nothing(
    bench: Bench,
) -> None:
    bench.disks.found = FULL
    assert not bench.fitness.may_claim()
    bench.disks.found = None
    await bench.fitness.check()
    assert bench.changes == [None]


async def test_a_disk_that_cannot_be_written_to_makes_a_worker_unfit(bench: Bench) -> None:
    bench.disks.write = "cannot write to /work: Read-only file system"
    assert await bench.after(0) == bench.disks.write


async def test_a_fit_worker_writes_seldom_and_an_unfit_one_at_every_check(bench: Bench) -> None:
    for _ in range(3):
        await bench.after(5)
    assert bench.disks.calls == 1
    await bench.after(fitness_module.WRITE_INTERVAL)
    bench.disks.write = "cannot write"
    await bench.after(fitness_module.WRITE_INTERVAL)
    before = bench.disks.calls
    for _ in range(3):
        await bench.after(5)
    assert bench.disks.calls == before + 3


async def test_a_disk_that_does_not_answer_makes_a_worker_unfit_and_is_asked_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness_module, "DISK_TIMEOUT", 0.01)
    bench.disks.may_answer.clear()
    assert "gets no answer from the disk of /work" in str(await bench.after(0))
    await bench.after(100)
    assert bench.disks.calls == 1
    bench.disks.may_answer.set()

    async def fit() -> bool:
        return await bench.after(0) is None

    await eventually(fit, "the disk to answer")


async def test_the_machine_is_checked_regularly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness_module, "CHECK_INTERVAL", 0.001)
    await bench.fitness.start()
    bench.disks.found = FULL

    async def told() -> bool:
        return bench.changes == [FULL]

    await eventually(told, "the change")
    await bench.fitness.stop()


async def test_a_lost_gpu_makes_a_worker_unfit_if_its_programs_use_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for needs_gpu in (True, False):
        bench = Bench(monkeypatch, needs_gpu=needs_gpu)
        bench.gpus.lost = "has lost GPU 1"
        assert await bench.after(0) == ("has lost GPU 1" if needs_gpu else None)


async def test_after_a_fault_of_the_machine_the_program_is_started_without_a_job(bench: Bench) -> None:
    bench.program = "cannot start its program: ModuleNotFoundError: No module named 'torch'"
    await bench.ended(failure(FailureKind.WORKER_UNFIT))
    assert (bench.probes, bench.fitness.unfit) == (1, bench.program)
    assert await bench.after(5) == bench.program
    bench.program = None
    assert await bench.after(5) is None
    await bench.after(5)
    assert bench.probes == 3


async def test_one_fault_of_the_machine_that_a_check_does_not_find_is_forgiven(bench: Bench) -> None:
    await bench.ended(failure(FailureKind.WORKER_UNFIT))
    assert bench.fitness.may_claim()


async def test_two_faults_of_the_machine_in_different_tasks_make_a_worker_rest(bench: Bench) -> None:
    for _ in range(2):
        await bench.ended(failure(FailureKind.WORKER_UNFIT))
    assert bench.fitness.unfit == (
        "rests for 10 s, because attempts of 2 tasks in a row failed by the machine's fault: it broke"
    )
    assert await bench.after(FIRST_REST - 1) is not None
    assert await bench.after(1) is None


async def test_two_faults_in_one_task_make_no_rest(bench: Bench) -> None:
    one = key()
    for _ in range(2):
        await bench.ended(failure(FailureKind.WORKER_UNFIT, one))
    assert bench.fitness.unfit is None


async def test_each_rest_is_twice_as_long_as_the_one_before(bench: Bench) -> None:
    await bench.ended(failure(FailureKind.WORKER_UNFIT))
    rest = FIRST_REST
    for _ in range(8):
        await bench.ended(failure(FailureKind.WORKER_UNFIT))
        assert await bench.after(rest - 0.1) is not None
        assert await bench.after(0.1) is None
        rest = min(2 * rest, LONGEST_REST)


async def test_a_success_ends_the_row_of_faults(bench: Bench) -> None:
    for event in (failure(FailureKind.WORKER_UNFIT), success(), failure(FailureKind.WORKER_UNFIT)):
        await bench.ended(event)
    assert bench.fitness.unfit is None


async def test_many_crashes_in_a_row_of_different_tasks_make_a_worker_rest(bench: Bench) -> None:
    for _ in range(CRASHES_BEFORE_REST - 1):
        await bench.ended(failure(FailureKind.PROGRAM_CRASHED))
    assert bench.fitness.unfit is None
    await bench.ended(failure(FailureKind.PROGRAM_CRASHED))
    assert str(bench.fitness.unfit).startswith("rests for 10 s, because attempts of 5 tasks in a row crashed")
    assert bench.probes == 1


@pytest.mark.parametrize("kind", [FailureKind.BAD_INPUT, FailureKind.OUT_OF_MEMORY, FailureKind.STALLED])
async def test_other_failures_make_no_rest(bench: Bench, kind: FailureKind) -> None:
    for _ in range(10):
        await bench.ended(failure(kind))
    assert bench.fitness.unfit is None


async def test_a_pause_does_not_end_the_row_of_faults(bench: Bench) -> None:
    paused = PhasePaused(key=key(), claim_id=CLAIM, worker_id="w")
    for event in (failure(FailureKind.WORKER_UNFIT), paused, failure(FailureKind.WORKER_UNFIT)):
        await bench.ended(event)
    assert bench.fitness.unfit is not None


async def test_a_check_that_fails_does_not_end_the_checks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness_module, "CHECK_INTERVAL", 0.01)
    await bench.fitness.start()
    with capture_logs() as logs, monkeypatch.context() as broken:
        broken.setattr(bench.gpus, "read", None)

        async def failed() -> bool:
            return any(line["event"] == "machine_not_checked" for line in logs)

        await eventually(failed, "the check to fail")
    bench.disks.found = FULL

    async def told() -> bool:
        return bench.changes == [FULL]

    await eventually(told, "the next check")
    await bench.fitness.stop()
