"""No text of people, programs or servers steers the terminal: every command shows answers whose every text is hostile.

The answers are made from the models of the gateway's routes, and the commands are those that `treadle` has, so that a
new field or command is covered, or fails here until it has a case.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
import typer
from fastapi import APIRouter
from fastapi.routing import APIRoute

import control.gateway
from cli import client
from cli.check import command as check_command
from cli.dead_letters import commands as dlq
from cli.demo import report as demo_report
from cli.demo.run import Demo, DemoResult
from cli.doctor import checks as doctor_checks
from cli.main import app
from cli.terminal import Terminal
from cli.topology import accounts as topology_accounts
from contracts.checks import CheckReport
from contracts.files import FilesView
from contracts.http import HistoryView, TaskView
from contracts.message import Message
from contracts.progress import PhaseProgress
from contracts.submissions import Problem
from contracts.tasks import Phase, TaskStatus
from control.maintenance.dead_letters import DeadLetter
from control.maintenance.replay import Replayed
from control.maintenance.retention import Cleaned
from control.maintenance.verification import Verified
from infra import row_check
from infra.bus.rabbitmq.accounts.account import Account
from infra.child.progress import ProgressLine
from tests.hostile import LEGIT, Hostile, hostile_text, pieces, shown, unsafe_characters

CLIENT = httpx.AsyncClient
TASK = str(UUID(int=1))
CASES: dict[str, Sequence[str]] = {
    "check": ["{file}"],
    "upload": ["{file}", "--name", "n"],
    "submit": ["--model", "m", "--dataset", "d"],
    **{name: [TASK] for name in ("start", "pause", "resume", "cancel", "retry", "show", "watch", "trace", "logs")},
    **{name: [TASK, "--reason", "r"] for name in ("kick", "fail")},
    "tasks": [],
    "download": ["ds-1", "--to", "{folder}"],
    "retention": ["--dry-run"],
    "verify": [],
    "doctor": [],
    "dlq list": [],
    "dlq show": ["{letter}"],
    "dlq replay": ["--all"],
    "dlq purge": ["--all", "--yes"],
    "topology users list": [],
}
"""The arguments of each command."""
CHANGES_OF_ACCOUNTS = {f"topology users {name}" for name in ("add", "password", "remove", "setup")}
WITHOUT_FOREIGN_TEXT = {"up", "control", "worker", "topology show", "topology apply", *CHANGES_OF_ACCOUNTS}
"""They print Treadle's own constants and addresses, and checked names of accounts. The demo prints its own names, and
the views of a task."""
NO_DETAILS = {"dlq purge"}
"""It prints only a number."""
STYLE = "0|[1-4]|9[0-7]|10[0-7]|3[0-7]|38;5;\\d+"
STYLES = re.compile(rf"\x1b\[(?:{STYLE})(?:;(?:{STYLE}))*m")
CURSOR = re.compile(r"\x1b\[\?25[lh]|\x1b\[\d*[A]|\x1b\[2K|\r(?=\x1b|\n)")
"""What rich itself writes. The hostile samples have none of these sequences."""


class Stream(io.TextIOWrapper):
    """A standard stream that pretends to be a terminal or a pipe."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def bytes(self) -> bytes:
        return cast("io.BytesIO", self.buffer).getvalue()

    @property
    def text(self) -> str:
        return self.bytes.decode(errors="replace")


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the output is a terminal, so wide that no line is cut."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "40000", "LINES": "500"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return bool(request.param)


class Run:
    """The output of one command."""

    def __init__(self, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
        out, err = Stream(terminal=terminal), Stream(terminal=terminal)
        with monkeypatch.context() as streams:
            streams.setattr(sys, "stdout", out)
            streams.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended:
                app([*arguments])
        self.status, self.out, self.err, self.bytes = ended.value.code, out.text, err.text, out.bytes

    @property
    def written(self) -> str:
        """All that was written, without the sequences of rich."""
        return CURSOR.sub("", STYLES.sub("", self.out + self.err))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command with the names of its parameters."""

    def below(group: Any, path: str) -> Iterator[tuple[str, list[str]]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, f"{path}{name} ")
            else:
                yield f"{path}{name}", [each.name for each in command.params]

    yield from below(typer.main.get_command(app), "")


PARAMETERS = dict(commands())


def assert_harmless(written: str) -> None:
    assert sorted(set(written) & set(unsafe_characters()) - {"\n"}) == []
    assert not re.search("^FORGED", written, re.MULTILINE)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx.Request], httpx.Response]:
    """A gateway that answers every request with hostile text."""
    modules = [import_module(f"control.gateway.{each.name}") for each in iter_modules(control.gateway.__path__)]
    routers = [each for module in modules for each in vars(module).values() if isinstance(each, APIRouter)]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]

    def answer(request: httpx.Request) -> httpx.Response:
        path, method = request.url.path, request.method
        if "/files/" in path:
            return httpx.Response(200, content=b"")
        route = next(each for each in routes if method in each.methods and each.path_regex.match(path))
        if path.endswith("/log"):
            return hostile_log(request)
        if path.endswith("/progress"):
            return httpx.Response(200, text=history(), headers={"content-type": "text/event-stream"})
        body = files() if route.response_model is FilesView else Hostile().json(route.response_model)
        return httpx.Response(200, json=body)

    serve(monkeypatch, answer)
    return answer


def serve(monkeypatch: pytest.MonkeyPatch, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    class Client(CLIENT):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given, transport=httpx.MockTransport(answer))

    monkeypatch.setattr(httpx, "AsyncClient", Client)


def hostile_log(request: httpx.Request) -> httpx.Response:
    """A log of hostile bytes, also such that are no text; followed, as an event. Its lines may be any, as in a log."""
    data = (
        hostile_text().replace("FORGED", "line").encode()
        + b"\n\xff\x9b2J\xc2 \x1b[31mred\x1b[0m\n"
        + b"half a line \x1b]0;x\x07"
    )
    headers = {"log-offset": "0", "log-next-offset": str(len(data)), "log-size": str(len(data)), "log-ended": "true"}
    if "follow" not in request.url.params:
        return httpx.Response(200, content=data, headers=headers)
    chunk = {"offset": 0, "nextOffset": len(data), "text": data.decode(errors="backslashreplace")}
    events = f"event: log\nid: {len(data)}\ndata: {json.dumps(chunk)}\n\nevent: end\ndata: {{}}\n\n"
    return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})


def history() -> str:
    """The stream of a task: an event of every kind, progress in every phase, and the end."""
    kinds = [kind for kind in subclasses(Message) if "kind" in kind.model_fields and kind is not PhaseProgress]
    events = [(kind.model_fields["kind"].default, kind) for kind in kinds if kind.model_fields["kind"].default]
    rows = [event_row(name, Hostile().json(kind), "OPTIMIZING") for name, kind in events if isinstance(name, str)]
    steps = [progress(phase) for phase in Phase]
    return "".join([*rows, *steps, event_row("lease_lost", {}, "FAILED")])


def event_row(kind: str, event: dict[str, Any], status: str) -> str:
    row = {**Hostile().json(HistoryView), "kind": kind, "event": event, "status": status, "outcome": "applied"}
    return f"event: history\nid: 1\ndata: {json.dumps(row)}\n\n"


def progress(phase: Phase) -> str:
    step = Hostile().json(PhaseProgress)
    step["key"] |= {"phase": phase.value}
    return f"event: progress\ndata: {json.dumps(step)}\n\n"


def subclasses(kind: type[Message]) -> Iterator[type[Message]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith("contracts."):
            yield each
        yield from subclasses(each)


def files() -> dict[str, Any]:
    """A list of empty files whose names are hostile, but stay below the folder."""
    names = [re.sub(r"//|\\|\0", "", piece) for piece in pieces()]
    empty = hashlib.sha256(b"").hexdigest()
    return {"files": [{"name": name, "size": 0, "sha256": empty} for name in names], "removed": [hostile_text()]}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> DeadLetter:
    """Hostile text that does not come from the gateway: dead letters, artifacts, checks, the program of a check."""
    letter = replace(Hostile().instance(DeadLetter), id="letter\x1b]0;x\x07", body=json.dumps("\ud800").encode())
    plain = replace(letter, id="[/b]", body=hostile_text().encode())
    reports = {"check": Hostile().instance(CheckReport), "cleaned": Hostile().instance(Cleaned)}
    stranger = Hostile().instance(Replayed)

    async def letters(*_: object) -> list[DeadLetter]:
        return [letter, plain]

    async def replayed(*_: object) -> list[Replayed]:
        return [replace(stranger, dropped=dropped) for dropped in (True, False)]

    async def cleaned(*_: object) -> Cleaned:
        return cast("Cleaned", reports["cleaned"])

    async def verified(_: object) -> Verified:
        return Hostile().instance(Verified)

    async def checked(_: str, __: Path, ___: object, on_step: Callable[[ProgressLine], None]) -> CheckReport:
        on_step(Hostile().instance(ProgressLine))
        return cast("CheckReport", reports["check"])

    async def components(*_: object) -> list[doctor_checks.Check]:
        states = doctor_checks.CheckState
        return [replace(Hostile().instance(doctor_checks.Check), state=state) for state in states]

    class Accounts:
        async def list(self) -> list[Account]:
            return [Hostile().instance(Account)]

    monkeypatch.setattr(topology_accounts, "find_target", lambda _: None)
    monkeypatch.setattr(topology_accounts, "reachable", lambda _: Accounts())
    monkeypatch.setattr(dlq, "_all", letters)
    monkeypatch.setattr(dlq, "_purge", letters)
    monkeypatch.setattr(dlq, "_replay", replayed)
    monkeypatch.setattr("cli.retention._clean", cleaned)
    monkeypatch.setattr("cli.verify._verify", verified)
    monkeypatch.setattr(row_check, "run_check", checked)
    monkeypatch.setattr(doctor_checks, "component_checks", components)
    return letter


@pytest.fixture
def places(tmp_path: Path, elsewhere: DeadLetter) -> dict[str, str]:
    """A file and a folder on this machine whose names are hostile, and the id of a dead letter."""
    file = tmp_path / "\x1b]0;x\x07\x9b2J\u202e[bold]q[ :smile:\n.csv"
    file.write_text("a,b\n1,2\n")
    return {"{file}": str(file), "{folder}": str(tmp_path / "to\x1b[2J[bold]"), "{letter}": elsewhere.id}


def test_every_command_has_a_case() -> None:
    assert set(PARAMETERS) == {*CASES, *WITHOUT_FOREIGN_TEXT, "demo"}


def arguments(name: str, places: dict[str, str]) -> list[str]:
    return [*name.split(), *(places.get(each, each) for each in CASES[name])]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("answers")
def test_a_command_shows_hostile_text_as_text(
    name: str, places: dict[str, str], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(arguments(name, places), monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert "Traceback" not in run.err
    assert name in NO_DETAILS or any(piece in run.written for text in pieces()[:8] for piece in shown(text)), run.err


@pytest.mark.parametrize("name", [name for name in CASES if {"as_json", "form"} & set(PARAMETERS[name])])
@pytest.mark.usefixtures("answers")
def test_json_is_valid_and_does_not_steer_a_terminal(
    name: str, places: dict[str, str], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = ["--json"] if "as_json" in PARAMETERS[name] else ["--format", "json"]
    run = Run([*arguments(name, places), *option], monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert json.loads(run.out)


@pytest.mark.parametrize("name", [name for name in CASES if "url" in PARAMETERS[name] and name != "doctor"])
def test_a_refusal_is_shown_as_text(
    name: str, places: dict[str, str], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = {**Hostile().json(Problem), "status": 409}
    serve(monkeypatch, lambda request: httpx.Response(409, json=problem))
    run = Run(arguments(name, places), monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert (run.status, "Traceback" in run.err) == (1, False)


@pytest.mark.parametrize("options", [["--tail", "3"], ["--attempt", "1/train/a2", "--follow"]], ids=str)
@pytest.mark.usefixtures("answers")
def test_a_part_of_a_log_and_a_followed_log_are_shown_as_text(
    options: list[str], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(["logs", TASK, *options], monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert (run.status, "half a line \\x1b]0;x\\x07" in run.out, "red" in run.out) == (0, True, True)


@pytest.mark.usefixtures("answers")
def test_the_bytes_of_a_log_go_to_a_pipe_only(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(["logs", TASK, "--raw"], monkeypatch, terminal=terminal)
    assert run.status == (2 if terminal else 0)
    assert (b"\x9b2J" in run.bytes) == (not terminal)
    assert_harmless(STYLES.sub("", run.err))


def test_what_doctor_is_told_by_the_gateway_is_shown_as_text(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, lambda request: httpx.Response(503, json=Hostile().json(Problem)))
    run = Run(["doctor", "--only", "gateway"], monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert "FORGED" in run.written


@pytest.mark.parametrize("name", ["tasks", "show", "watch", "download", "start"])
def test_an_answer_that_cannot_be_read_is_shown_as_text(
    name: str, places: dict[str, str], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, lambda request: httpx.Response(200, json={"items": hostile_text(), hostile_text(): 1}))
    run = Run(arguments(name, places), monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert run.status == 1


def test_an_unforeseen_error_is_shown_as_text(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError(hostile_text())

    monkeypatch.setattr(client.GatewayClient, "get", fail)
    run = Run(["tasks"], monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert (run.status, "Traceback" in run.err, "FORGED" in run.err) == (1, True, True)


@pytest.mark.parametrize("command", [["upload"], ["check"], ["dlq"], [], ["download", "x", "--only"]])
def test_an_argument_that_is_refused_is_shown_as_text(
    command: list[str], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run([*command, hostile_text().replace("\0", "")], monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert run.status == 2


def test_a_damaged_download_is_shown_as_text(
    places: dict[str, str],
    terminal: bool,
    answers: Callable[[httpx.Request], httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def damaged(request: httpx.Request) -> httpx.Response:
        if "/files/" in request.url.path:
            return answers(request)
        return httpx.Response(200, json={"files": [{**file, "sha256": "0" * 64} for file in files()["files"]]})

    serve(monkeypatch, damaged)
    run = Run(arguments("download", places), monkeypatch, terminal=terminal)
    assert_harmless(run.written)
    assert "arrived damaged twice" in run.err


def test_the_report_of_the_demo_shows_hostile_text_as_text(
    tmp_path: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_report, "save_png", lambda *_, **__: None)
    task = TaskView.model_validate({**Hostile().json(TaskView), "bestIteration": 2})
    folder = tmp_path / hostile_text()
    stream = Stream(terminal=terminal)
    with monkeypatch.context() as streams:
        streams.setattr(sys, "stdout", stream)
        demo_report.report(Terminal(), DemoResult(Demo("random", 1, folder), task, {}, 1.0))
    assert_harmless(CURSOR.sub("", STYLES.sub("", stream.text)))


@pytest.mark.usefixtures("answers")
def test_legitimate_text_stays_as_it_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (["tasks"], ["show", TASK], ["tasks", "--json"], ["watch", TASK]):
        assert LEGIT in Run(command, monkeypatch, terminal=terminal).out


def test_a_task_named_like_markup_keeps_its_name(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    task = {**Hostile().json(TaskView), "taskName": "fix [/b] tags", "status": TaskStatus.FAILED}
    page = {"items": [task], "total": 1, "page": 1, "pageSize": 20}
    serve(monkeypatch, lambda request: httpx.Response(200, json=page))
    assert "fix [/b] tags" in STYLES.sub("", Run(["tasks"], monkeypatch, terminal=terminal).out)


def test_check_uses_the_function_that_this_file_replaces() -> None:
    assert "run_check" in check_command._run.__code__.co_names
