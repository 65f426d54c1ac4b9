"""`treadle logs`: which log it prints, which part of it, and when it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cli.logs import reading
from cli.logs.output import shown_line
from cli.logs.reading import last_lines
from cli.main import app
from cli.tasks.view import show_task
from contracts.errors import FieldError
from contracts.http import ExecutionView
from contracts.submissions import Problem
from contracts.waiting import TaskDetail
from tests.hostile import Hostile
from tests.unit.test_client import ATTEMPT
from tests.unit.test_hostile_text import serve

TASK = str(UUID(int=1))
LOG = b"".join(b"line %d\n" % number for number in range(1, 201))


class Server:
    """A gateway with one task, whose attempts have the logs of `logs`, and end when they were followed."""

    def __init__(self, logs: dict[str, bytes | None]) -> None:
        self.logs = logs
        self.asked: list[str] = []
        self.started = len(logs)
        """Attempts that have been issued; following one issues the next."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/executions"):
            return httpx.Response(200, json=[execution(name) for name in list(self.logs)[: self.started]])
        if path.endswith("/log"):
            name = path.partition("/attempts/")[2].removesuffix("/log")
            return self._log(name, request)
        status = "COMPLETED" if self.started == len(self.logs) else "TRAINING"
        return httpx.Response(200, json={**task(), "status": status})

    def _log(self, name: str, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        data = self.logs.get(name)
        if "follow" in query:
            self.asked.append(f"{name} from {query['offset']}")
            self.started = min(self.started + 1, len(self.logs))
        if data is None:
            errors = (FieldError(field="log", message=f"no {name}"),)
            problem = Problem(title="t", status=404, detail="d", errors=errors)
            return httpx.Response(404, text=problem.model_dump_json())
        if "follow" in query:
            return stream(data, int(query["offset"]))
        start = int(query["offset"]) if "offset" in query else max(0, len(data) - int(query["tail"]))
        end = min(len(data), start + int(query.get("limit", len(data))))
        place = {"log-offset": start, "log-next-offset": end, "log-size": len(data)}
        return httpx.Response(200, content=data[start:end], headers={key: str(value) for key, value in place.items()})


def stream(data: bytes, offset: int) -> httpx.Response:
    chunk = {"offset": offset, "nextOffset": len(data), "text": data[offset:].decode()}
    events = f"event: log\nid: {len(data)}\ndata: {json.dumps(chunk)}\n\nevent: end\ndata: {{}}\n\n"
    return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})


def execution(name: str) -> dict[str, Any]:
    iteration, phase, number = name.split("/")
    nouns = {"optimize": "optimization", "train": "training", "evaluate": "evaluation"}
    return {
        **ATTEMPT,
        "iteration": int(iteration),
        "phase": nouns[phase],
        "attempt": int(number[1:]),
        "status": "failed",
    }


def task() -> dict[str, Any]:
    body: dict[str, Any] = Hostile().json(TaskDetail)
    return body | {"taskId": TASK}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(reading, "NEXT_ATTEMPT", 0.001)
    monkeypatch.setattr("cli.client.FIRST_WAIT", 0.001)

    def run_command(server: Server, *options: str) -> Result:
        serve(monkeypatch, server)
        return CliRunner().invoke(app, ["logs", TASK, *options])

    return run_command


def test_by_default_the_newest_attempt_that_has_a_log_is_printed_and_named(run: Callable[..., Result]) -> None:
    answer = run(Server({"1/optimize/a1": b"old\n", "1/train/a1": LOG, "1/train/a2": None}))
    assert answer.stdout.encode() == LOG
    assert answer.stderr == "log of 1/train/a1 (failed); --attempt selects another one:\n"


def test_a_log_of_several_pages_is_printed_completely(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE", 100)
    server = Server({"1/train/a1": LOG})
    assert run(server, "--attempt", "1/train/a1").stdout.encode() == LOG


@pytest.mark.parametrize("number", [0, 1, 5, 150, 200, 500])
def test_only_the_last_lines_are_printed(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(reading, "PAGE", 100)
    lines = LOG.decode().splitlines(keepends=True)
    answer = run(Server({"1/train/a1": LOG}), "--attempt", "1/train/a1", "--tail", str(number))
    assert answer.stdout == "".join(lines[max(0, len(lines) - number) :])


def test_the_logs_of_all_later_attempts_are_followed_until_the_task_ends(run: Callable[..., Result]) -> None:
    server = Server({"1/optimize/a1": b"one\n", "1/train/a1": None, "1/train/a2": b"two\nthree"})
    server.started = 1
    answer = run(server, "--follow")
    assert answer.exit_code == 0
    assert answer.stdout == "one\ntwo\nthree\n"
    assert answer.stderr.splitlines() == [
        "log of 1/optimize/a1:", "log of 1/train/a1:", "log: no 1/train/a1", "log of 1/train/a2:",
    ]  # fmt: skip


def test_one_attempt_is_followed_after_its_last_lines(run: Callable[..., Result]) -> None:
    server = Server({"1/train/a1": LOG, "1/train/a2": b"other\n"})
    answer = run(server, "--attempt", "1/train/a1", "--follow", "--tail", "2")
    assert answer.stdout == "line 199\nline 200\n"
    assert server.asked == [f"1/train/a1 from {len(LOG)}"]


def test_a_task_without_a_log_says_why_of_its_newest_attempt(run: Callable[..., Result]) -> None:
    answer = run(Server({"1/optimize/a1": None, "1/train/a1": None}))
    assert (answer.exit_code, answer.stderr) == (1, "log: no 1/train/a1\n")


def test_a_task_without_attempts_says_what_to_type(run: Callable[..., Result]) -> None:
    answer = run(Server({}))
    assert (answer.exit_code, f"treadle start {TASK}" in answer.stderr) == (2, True)


def test_a_wrong_attempt_is_refused_with_an_example(run: Callable[..., Result]) -> None:
    answer = run(Server({}), "--attempt", "../train")
    assert (answer.exit_code, "such as 1/train/a2" in answer.stderr) == (2, True)


def test_bytes_are_not_followed(run: Callable[..., Result]) -> None:
    answer = run(Server({"1/train/a1": LOG}), "--raw", "--follow")
    assert (answer.exit_code, "--raw" in answer.stderr) == (2, True)


def test_bytes_are_written_as_they_are(run: Callable[..., Result]) -> None:
    answer = run(Server({"1/train/a1": b"\x00\xff\x1b[31m\r\n"}), "--raw")
    assert answer.stdout_bytes == b"\x00\xff\x1b[31m\r\n"


def test_a_line_that_was_overwritten_is_shown_in_its_last_state_without_colours() -> None:
    assert shown_line(b"\r 1%\r\x1b[32m50%\x1b[0m\r100% \xff\r") == "100% \\xff"


@given(st.lists(st.sampled_from(["a", "", "bc\r"])), st.booleans(), st.integers(0, 5))
def test_the_last_lines_are_those_of_the_text(lines: list[str], ended: bool, number: int) -> None:
    data = "\n".join(lines) + "\n" * ended
    kept = data.removesuffix("\n").split("\n")[-number:] if number and data else []
    expected = "\n".join(kept) + ("\n" if kept and data.endswith("\n") else "")
    assert last_lines(data.encode(), number) == expected.encode()


@pytest.mark.parametrize(("status", "hinted"), [("failed", True), ("completed", False)])
def test_show_names_the_command_that_prints_the_log_of_a_failed_attempt(
    capsys: pytest.CaptureFixture[str], status: str, hinted: bool
) -> None:
    attempt = ExecutionView.model_validate({**ATTEMPT, "status": status})
    show_task(TaskDetail.model_validate(task()), [attempt])
    assert (f"treadle logs {TASK} --attempt 1/train/a2" in capsys.readouterr().out) == hinted
