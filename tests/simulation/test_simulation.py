"""Ten seeds of about ten thousand steps each break no promise, and a seed always gives the same steps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from unittest.mock import patch

import pytest

from contracts.leases import Claim, LeaseVerdict
from tests.memory_store import MemoryStore
from tests.simulation.run import STEPS, Report, simulate
from tests.simulation.world import CRASH_POINTS, Violation

SEEDS = range(1, 11)


@cache
def report_of(seed: int) -> Report:
    try:
        return simulate(seed)
    except Violation as violation:
        pytest.fail(f"{violation}\n\nto repeat it: python -m tests.simulation --seed {seed}", pytrace=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost(seed: int) -> None:
    assert report_of(seed).total >= STEPS


def test_the_seeds_make_a_hundred_thousand_steps() -> None:
    assert sum(report_of(seed).total for seed in SEEDS) >= 100_000


def test_processes_crash_at_every_named_point() -> None:
    crashes = sum((report_of(seed).crashes for seed in SEEDS[:3]), Counter())
    assert set(crashes) == set(CRASH_POINTS)


def run_seeds() -> None:
    """Run seeds until one has a violation: a single seed does not contain every fault."""
    for seed in SEEDS:
        simulate(seed)


def test_an_attempt_that_is_granted_twice_is_detected() -> None:
    real = MemoryStore._claim

    def grant_always(store: MemoryStore, claim: Claim, worker_id: str) -> LeaseVerdict:
        verdict = real(store, claim, worker_id)
        return LeaseVerdict.GRANTED if verdict is LeaseVerdict.HELD else verdict

    with patch.object(MemoryStore, "_claim", grant_always), pytest.raises(Violation, match="was granted to two claims"):
        run_seeds()


def test_a_machine_that_applies_events_of_older_attempts_is_detected() -> None:
    with patch("control.machine.machine._is_current", lambda task, event: True), pytest.raises(Violation):
        run_seeds()


def test_a_seed_gives_the_same_steps_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "3", "--steps", "1500"]
    output = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "5"}, check=True, capture_output=True, text=True
    ).stdout
    assert simulate(3, 1500).digest in output
