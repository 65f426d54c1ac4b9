"""How many threads a step of a training uses."""

from collections.abc import Iterator

import pytest
import torch

from contracts.options import Hyperparameters, Method
from trainer_worker.programs.threads import MIN_OPERATIONS_FOR_THREADS, StepThreads


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def threads_of(method: Method, parameters: int = 1_000_000) -> StepThreads:
    model = torch.nn.Linear(parameters, 1, bias=False, device="meta")
    return StepThreads(model, Hyperparameters(method=method))  # type: ignore[arg-type]


def test_a_small_step_uses_one_thread_and_a_large_one_all() -> None:
    tokens = int(MIN_OPERATIONS_FOR_THREADS / (6 * 1_000_000))
    threads = threads_of(Method.FULL)
    assert (threads.count(tokens), threads.count(tokens + 1)) == (1, 3)


def test_a_step_that_trains_an_adapter_takes_fewer_operations() -> None:
    tokens = int(MIN_OPERATIONS_FOR_THREADS / (6 * 1_000_000)) + 1
    assert threads_of(Method.LORA).count(tokens) == 1


def test_the_threads_of_a_large_step_follow_those_of_a_small_one() -> None:
    threads = threads_of(Method.FULL)
    threads.use(1)
    assert torch.get_num_threads() == 1
    threads.use(10_000)
    assert torch.get_num_threads() == 3
