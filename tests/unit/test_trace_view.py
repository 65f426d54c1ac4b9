"""How `treadle trace` draws an iteration."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.main import app
from cli.trace.axis import AttemptTimes, Axis
from cli.trace.bars import attempt_bar
from cli.trace.view import show_trace
from contracts.tasks import Phase, TaskStatus
from contracts.traces import PhaseSpan, StandstillView, TraceView
from control.gateway.views import task_detail
from control.store.values import StoredTask, TaskClock
from tests.build import started

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TASK = str(UUID(int=1))
BARS = re.compile("[░▒█▸─]")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def span(
    phase: str, number: int, status: str, times: tuple[float, float | None, float | None], **more: Any
) -> PhaseSpan:
    """A span by the seconds at which it was due, claimed and ended."""
    due, claimed, ended = times
    fields = {
        "span_id": "a" * 16,
        "parent_span_id": "b" * 16,
        "name": f"phase {phase}",
        "phase": Phase(phase),
        "attempt": number,
        "status": status,
        "worker_id": None if claimed is None else "worker-1",
        "failure": None,
        "message": None,
        "created_at": at(due),
        "due_at": at(due),
        "started_at": None if claimed is None else at(claimed),
        "completed_at": None if ended is None else at(ended),
        "work_seconds": None,
    }
    return PhaseSpan.model_validate(fields | more)


def trace(*spans: PhaseSpan, now: float = 100, ended: float | None = None, **more: Any) -> TraceView:
    fields = {
        "task_id": UUID(int=1),
        "task_name": "bank answers",
        "status": TaskStatus.TRAINING,
        "iteration": 1,
        "iterations": 1,
        "trace_id": "0123456789abcdef" * 2,
        "span_id": "b" * 16,
        "now": at(now),
        "began_at": min(each.due_at for each in spans),
        "ended_at": None if ended is None else at(ended),
        "spans": spans,
        "standstills": (),
    }
    return TraceView.model_validate(fields | more)


OPTIMIZED = span("optimize", 1, "completed", (0, 1, 10), work_seconds=6.0)
TRAINED = span("train", 1, "completed", (10, 12, 50), work_seconds=30.0)
EVALUATED = span("evaluate", 1, "completed", (50, 50, 60), work_seconds=8.0)
COMPLETE = trace(OPTIMIZED, TRAINED, EVALUATED, ended=60, work_seconds=44.0, wall_seconds=60.0, overhead=0.2667)
LOST = span("train", 1, "lost", (10, 12, 60), message="the worker sent no heartbeat and its lease expired")
FAILED = span("train", 2, "failed", (60, 61, 70), failure="out_of_memory", message="it is too large", work_seconds=3.0)
RUNNING = span("train", 3, "running", (75, 76, None))


@pytest.fixture
def drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The lines that a trace prints into a pipe of a given width."""

    def draw(view: TraceView, width: int = 80) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        show_trace(view)
        return capsys.readouterr().out.splitlines()

    return draw


Drawn = Callable[..., list[str]]


def test_an_iteration_is_a_tree_of_its_phases_and_their_attempts(drawn: Drawn) -> None:
    tree = [BARS.sub("", line).rstrip() for line in drawn(COMPLETE)[5:12]]
    assert [" ".join(line.split()) for line in tree] == [
        "iteration 1 0.0s 60.0s 44.0s",
        "├ optimize 0.0s",
        "│ └ a1 completed 0.0s 1.0s 9.0s 6.0s",
        "├ train 10.0s",
        "│ └ a1 completed 10.0s 2.0s 38.0s 30.0s",
        "└ evaluate 50.0s",
        "└ a1 completed 50.0s 0.0s 10.0s 8.0s",
    ]


def test_the_heading_has_the_trace_id_and_the_overhead(drawn: Drawn) -> None:
    heading = drawn(COMPLETE)[:3]
    assert heading[0] == "bank answers · iteration 1, ended · the task is TRAINING"
    assert "0123456789abcdef0123456789abcdef" in heading[1]
    assert heading[2] == "work 44.0 s of 60.0 s; overhead 27 %: imports, transfers and waiting"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_trace_fits_its_terminal_and_no_bar_is_cut(drawn: Drawn, width: int) -> None:
    lines = drawn(trace(OPTIMIZED, LOST, FAILED, RUNNING), width)
    tree = lines[3:12]
    assert max(map(len, lines)) <= width
    assert [line for line in tree if line.rstrip().endswith("…")] == []


def test_output_into_a_pipe_has_no_colour(drawn: Drawn) -> None:
    assert "\x1b" not in "".join(drawn(trace(LOST, FAILED, RUNNING)))


def test_attempts_that_did_not_complete_say_why(drawn: Drawn) -> None:
    notes = drawn(trace(OPTIMIZED, LOST, FAILED, RUNNING))[-2:]
    assert notes == [
        "train a1 lost on worker-1: the worker sent no heartbeat and its lease expired",
        "train a2 failed on worker-1 (out_of_memory): it is too large",
    ]


def test_a_running_attempt_has_an_open_end_at_the_present_time(drawn: Drawn) -> None:
    line = next(line for line in drawn(trace(OPTIMIZED, RUNNING)) if "running" in line and "a3" in line)
    assert line.split()[3:6] == ["75.0s", "1.0s", "24.0s"]
    assert line.endswith("▸")


def test_an_attempt_that_waits_is_drawn_as_waiting(drawn: Drawn) -> None:
    line = next(line for line in drawn(trace(span("optimize", 1, "dispatched", (0, None, None)))) if "a1" in line)
    assert set(BARS.findall(line.partition("waiting")[2])) == {"░"}


def test_a_command_that_is_not_due_says_when(drawn: Drawn) -> None:
    view = trace(span("optimize", 1, "dispatched", (3700, None, None)))
    assert drawn(view)[-1] == f"optimize a1 is due at {at(3700).astimezone():%H:%M:%S} (in 1h0m)"


def test_a_pause_is_left_out_of_the_axis_and_named(drawn: Drawn) -> None:
    stood = StandstillView(status=TaskStatus.SUSPENDED, began_at=at(10), ended_at=at(3610))
    view = trace(OPTIMIZED, span("train", 1, "running", (3610, 3611, None)), now=3620, standstills=(stood,))
    lines = drawn(view)
    assert lines[-1] == "left out of the axis: 1h0m in which the task was SUSPENDED"
    assert next(line for line in lines if "running" in line and "a1" in line).split()[3] == "10.0s"


def test_the_workers_are_shown_if_there_is_space(drawn: Drawn) -> None:
    assert ["worker-1" in "".join(drawn(COMPLETE, width)) for width in (80, 120)] == [False, True]


SECONDS = st.integers(0, 10**6)


@given(times=st.lists(SECONDS, min_size=3, max_size=3), work=st.none() | st.floats(0, 1e9), width=st.integers(8, 60))
def test_a_bar_has_the_width_of_its_column(times: list[int], work: float | None, width: int) -> None:
    due, claimed, ended = sorted(times)
    view = span("train", 1, "completed", (due, claimed, ended), work_seconds=work)
    axis = Axis(trace(view, now=ended, ended=ended))
    bar = attempt_bar(axis, AttemptTimes(view, axis), width, colour="green", runs_on=False)
    assert len(bar.plain) == width
    assert len(axis.marks(width)) <= width


def answering(monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response) -> list[str]:
    """A gateway that gives these answers in turn; returns the list of the paths that are read."""
    paths, left, client = list[str](), iter(answers), httpx.AsyncClient

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return next(left)

    monkeypatch.setattr(httpx, "AsyncClient", lambda **given: client(**given, transport=httpx.MockTransport(answer)))
    return paths


def task_at(iteration: int) -> httpx.Response:
    detail = task_detail(StoredTask(replace(started(), iteration=iteration), NOW, NOW), None, TaskClock())
    return httpx.Response(200, json=detail.model_dump(mode="json", by_alias=True))


def found(view: TraceView) -> httpx.Response:
    return httpx.Response(200, json=view.model_dump(mode="json", by_alias=True))


@pytest.mark.parametrize(("newest", "path"), [(4, "4"), (0, "1")])
def test_the_newest_iteration_is_drawn_by_default(monkeypatch: pytest.MonkeyPatch, newest: int, path: str) -> None:
    paths = answering(monkeypatch, task_at(newest), found(COMPLETE))
    assert CliRunner().invoke(app, ["trace", TASK]).exit_code == 0
    assert paths[-1] == f"/api/tasks/{TASK}/iterations/{path}/trace"


def test_json_has_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, found(COMPLETE))
    output = CliRunner().invoke(app, ["trace", TASK, "--iteration", "1", "--json"]).stdout
    assert [each["name"] for each in json.loads(output)["spans"]] == ["phase optimize", "phase train", "phase evaluate"]


def test_an_unknown_iteration_is_refused_with_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "the task has no iteration 7; it has iterations 1 to 3"
    problem = {"title": "Not Found", "status": 404, "detail": message}
    answering(
        monkeypatch, httpx.Response(404, json={**problem, "errors": [{"field": "iteration", "message": message}]})
    )
    result = CliRunner().invoke(app, ["trace", TASK, "--iteration", "7"])
    assert (result.exit_code, result.stderr.strip()) == (1, f"iteration: {message}")
