from __future__ import annotations

import pytest

from trainer_worker.programs.schedule import learning_rate


def _rates(steps: int, warmup_ratio: float) -> list[float]:
    return [learning_rate(step, steps=steps, peak=0.1, warmup_ratio=warmup_ratio) for step in range(steps)]


def test_the_rate_rises_to_its_peak_in_equal_steps() -> None:
    assert _rates(100, 0.04)[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])


def test_the_rate_never_rises_after_the_warmup() -> None:
    rates = _rates(100, 0.1)[10:]
    assert rates == sorted(rates, reverse=True)


def test_the_rate_ends_near_zero() -> None:
    assert _rates(1000, 0.1)[-1] < 0.1 * 1e-4


def test_without_a_warmup_the_first_step_has_the_full_rate() -> None:
    assert _rates(10, 0.0)[0] == 0.1


def test_every_step_of_an_all_warmup_run_has_a_rate() -> None:
    assert _rates(3, 1.0)[-1] == pytest.approx(0.1)


def test_a_training_of_one_step_has_a_positive_rate() -> None:
    assert _rates(1, 0.03)[0] > 0
