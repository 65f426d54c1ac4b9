"""What a program reports is cut to the limits of a message, so that a strange program does not end its worker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from contracts.bounds import MAX_COUNT, MAX_ENTRIES
from contracts.progress import PhaseProgress
from contracts.topology import PROGRESS
from contracts.wire import decode
from control.machine.commands import command_for
from infra.bus.inprocess import InProcessBus
from infra.bus.port import IncomingMessage
from infra.child.progress import ProgressLine
from infra.worker.attempt import Attempt
from infra.worker.progress_reporter import ProgressReporter
from tests.build import started

NUMBERS = st.integers(-(2**200), 2**200)
LINES = st.builds(
    ProgressLine,
    stage=st.text(st.characters(), max_size=300),
    done=NUMBERS,
    total=NUMBERS,
    eta_seconds=st.none() | st.floats(),
    accelerators=NUMBERS,
    metrics=st.dictionaries(st.text(st.characters(), max_size=300), st.floats(), max_size=5),
)


def attempt() -> Attempt:
    return Attempt(command_for(started()), {})  # type: ignore[arg-type]  # every command is a PhaseCommand


async def reported(of: Attempt, *lines: ProgressLine) -> list[PhaseProgress]:
    """The messages that a reporter publishes."""
    bus, seen = InProcessBus(), list[PhaseProgress]()

    async def see(message: IncomingMessage) -> None:
        seen.append(decode(message.body, PhaseProgress))

    await bus.start()
    await bus.listen(PROGRESS.name, "#", see)
    reporter = ProgressReporter(bus, of, "w")
    for line in lines:
        reporter.step(line)
    await reporter.close()
    await bus.close()
    return seen


@examples(max_examples=60, deadline=None)
@given(line=LINES)
async def test_any_line_of_a_program_is_a_message_and_allows_a_heartbeat(line: ProgressLine) -> None:
    running = attempt()
    running.running_since = 0.0
    assert len(await reported(running, line)) == 1
    assert running.heartbeat().gpu_seconds >= 0


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ({"stage": ""}, "stage", "?"),
        ({"stage": "x" * 300}, "stage", "x" * 199 + "…"),
        ({"done": 2**70, "total": 2**70}, "done", MAX_COUNT),
        ({"eta_seconds": 1e13}, "eta_seconds", None),
    ],
)
async def test_what_exceeds_a_limit_is_cut_or_left_out(line: dict[str, Any], field: str, value: object) -> None:
    (message,) = await reported(attempt(), ProgressLine(**{"stage": "s", "done": 1, **line}))
    assert getattr(message, field) == value


async def test_the_first_metrics_are_kept() -> None:
    metrics = {f"m{number}": 1.0 for number in range(MAX_ENTRIES + 50)}
    (message,) = await reported(attempt(), ProgressLine(stage="s", done=1, metrics=metrics))
    assert list(message.metrics) == list(metrics)[:MAX_ENTRIES]


async def test_many_stages_at_once_are_few_messages() -> None:
    messages = await reported(attempt(), *(ProgressLine(stage=f"s{number}", done=1) for number in range(1000)))
    assert len(messages) == 100
