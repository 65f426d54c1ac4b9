from __future__ import annotations

import pytest

from contracts.commands import TrainModel
from control.machine.commands import command_for
from infra.worker import attempt as module
from infra.worker.attempt import Attempt
from tests.build import complete, started


@pytest.fixture
def attempt() -> Attempt:
    command = command_for(complete(started(), 1))
    assert isinstance(command, TrainModel)
    return Attempt(command, {})


def test_a_heartbeat_reports_the_seconds_so_far_times_the_accelerators(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt.running_since, attempt.accelerators = 100.0, 2
    monkeypatch.setattr(module.time, "monotonic", lambda: 105.0)
    assert attempt.heartbeat().gpu_seconds == 10.0


def test_an_attempt_has_used_no_gpu_seconds_before_its_program_runs(attempt: Attempt) -> None:
    assert attempt.heartbeat().gpu_seconds == 0.0
