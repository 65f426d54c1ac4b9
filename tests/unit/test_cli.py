"""The command line: its help, messages and exit statuses."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ByteSize
from typer.testing import CliRunner

from cli.client import GatewayClient
from cli.demo.run import DemoFailed
from cli.doctor.checks import CheckState, unfit_worker_checks
from cli.doctor.machine import worker_checks
from cli.main import COMMANDS, app
from cli.tasks.submission import FIELD_OF, body_of
from contracts.http import ContinuousTaskRequest
from infra.settings import Settings

COMMAND_NAMES = [command.__name__ for commands in COMMANDS.values() for command in commands]
NOWHERE = "http://127.0.0.1:9"

runner = CliRunner()


class Gateway(ThreadingHTTPServer):
    """A gateway that gives every request the same answer and records the requests."""

    def __init__(self, status: int, answer: dict[str, Any], content_type: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.answer, self.content_type = status, answer, content_type
        self.received: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        self.server.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        body = json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", self.server.content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def refusing() -> Iterator[Gateway]:
    problem = {
        "title": "Unprocessable",
        "status": 422,
        "detail": "a field is wrong",
        "errors": [{"field": "performanceThreshold", "message": "Input should be less than or equal to 1"}],
    }
    gateway = Gateway(422, problem, "application/problem+json")
    thread = threading.Thread(target=gateway.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield gateway
    gateway.shutdown()
    gateway.server_close()
    thread.join()


@pytest.mark.parametrize("name", COMMAND_NAMES)
def test_every_command_has_help(name: str) -> None:
    result = runner.invoke(app, [name, "--help"])

    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    "name",
    [
        "demo",
        "up",
        "worker",
        "upload",
        "download",
        "submit",
        "watch",
        "trace",
        "doctor",
        "retry",
        "kick",
        "fail",
        "retention",
    ],
)
def test_the_help_of_a_command_has_an_example(name: str) -> None:
    output = runner.invoke(app, [name, "--help"]).output

    assert f"treadle {name}" in output.split("Example", 1)[1]


def test_help_loads_neither_torch_nor_any_service() -> None:
    code = (
        "import sys; from cli.main import app; "
        "print([m for m in ('torch', 'transformers', 'fastapi', 'aio_pika', 'asyncpg', 'httpx') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [["tasks"], ["show", "x"], ["watch", "x"], ["start", "x"], ["submit", "--model", "m", "--dataset", "d"]],
)
def test_the_error_about_a_missing_gateway_names_the_command_that_starts_it(arguments: list[str]) -> None:
    result = runner.invoke(app, [*arguments, "--url", NOWHERE])

    assert result.exit_code == 1
    assert "no gateway answers at http://127.0.0.1:9: start one with `treadle up`" in result.stderr


def test_an_unforeseen_error_does_not_show_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("cannot reach amqp://me:hidden@host/")

    monkeypatch.setattr(GatewayClient, "get", fail)
    result = runner.invoke(app, ["tasks"])
    assert "amqp://***@host/" in result.output
    assert "hidden" not in result.output


def test_a_refused_field_is_named(refusing: Gateway) -> None:
    arguments = ["submit", "--model", "m", "--dataset", "d", "--threshold", "95", "--url", refusing.url]
    result = runner.invoke(app, arguments)

    assert result.exit_code == 2
    assert result.stderr.strip() == "performanceThreshold: Input should be less than or equal to 1"


def test_an_option_of_the_loop_creates_a_continuous_task(refusing: Gateway) -> None:
    runner.invoke(app, ["submit", "--model", "m", "--dataset", "d", "--iterations", "3", "--url", refusing.url])

    path, body = refusing.received[0]
    assert path == "/api/tasks/continuous"
    assert json.loads(body)["max_iterations"] == 3


def test_options_about_rows_and_answers_reach_their_fields(refusing: Gateway) -> None:
    options = ["--answers", "text", "--max-loss", "0.9", "--tidy", "--keep-spellings", "--max-new-tokens", "300"]
    runner.invoke(app, ["submit", "--model", "m", "--dataset", "d", *options, "--url", refusing.url])

    body = json.loads(refusing.received[0][1])
    assert body["optimization"] == {"answers": "text", "max_loss": 0.9, "tidy": True, "merge_spellings": False}
    assert body["evaluation"] == {"max_new_tokens": 300}


def test_every_option_of_a_submission_has_a_field_that_takes_its_type() -> None:
    task = dict.fromkeys(("model", "dataset", "name", "dev", "test", "pool"), "x")
    numbers = {"iterations": 3, "threshold": 0.5, "plateau": 2, "seed": 1, "user": 1, "learning_rate": 0.1}
    more = {"start": True, "start_in": 60.0, "stage": "pt", "method": "full", "epochs": 2.0, "arm": "none"}
    rows = {"label_budget": 5, "answers": "labels", "max_loss": 1.0, "tidy": True, "merge_spellings": True}
    answers = {"metric": "rouge_l", "max_new_tokens": 5}
    limits = {"optimize_limit": 60.0, "train_limit": 7200.0, "evaluate_limit": 60.0, "stall_limit": 1800.0}
    given = task | numbers | more | rows | answers | limits
    assert set(given) == set(FIELD_OF)
    mode, body = body_of(None, given, None)
    assert mode == "continuous"
    ContinuousTaskRequest.model_validate(body)


def test_a_delayed_start_also_sets_auto_start(refusing: Gateway) -> None:
    runner.invoke(app, ["submit", "--model", "m", "--dataset", "d", "--start-in", "1h30m", "--url", refusing.url])

    body = json.loads(refusing.received[0][1])
    assert (body["start_after_seconds"], body["auto_start"]) == (5400, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", "TASK", "--in", "soon"],
        ["submit", "--start-in", "7"],
        ["retention", "--older-than=-1d"],
        ["dlq", "purge", "--older-than", "1 d"],
    ],
)
def test_the_error_about_an_invalid_time_shows_the_expected_form(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)

    assert result.exit_code == 2
    assert "expected a time such as 45s, 30m, 2h or 1h30m" in " ".join(result.stderr.replace("│", "").split())


@pytest.mark.parametrize("command", ["kick", "fail"])
def test_kick_and_fail_require_a_reason(command: str) -> None:
    result = runner.invoke(app, [command, "TASK", "--url", NOWHERE])

    assert result.exit_code == 2
    assert "--reason" in result.stderr


def test_options_override_the_file(refusing: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    hyperparameters = {"learningRate": 0.1, "epochs": 2}
    file.write_text(json.dumps({"modelName": "m", "datasetId": "d", "hyperparameters": hyperparameters}))
    runner.invoke(app, ["submit", "--file", str(file), "--learning-rate", "0.5", "--url", refusing.url])

    assert json.loads(refusing.received[0][1])["hyperparameters"] == {"learning_rate": 0.5, "epochs": 2}


def test_a_file_that_is_no_object_is_named(tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text("[]")
    result = runner.invoke(app, ["submit", "--file", str(file), "--url", NOWHERE])

    assert result.exit_code == 2
    assert result.stderr.strip() == f"{file}: expected a JSON object, found list"


@pytest.mark.parametrize(("option", "value"), [("--threshold", "nan"), ("--learning-rate", "inf")])
def test_a_number_that_is_not_finite_is_named_by_its_option(option: str, value: str) -> None:
    result = runner.invoke(app, ["submit", "--model", "m", "--dataset", "d", option, value, "--url", NOWHERE])

    assert result.exit_code == 2
    assert result.stderr.strip() == f"{option}: expected a finite number, found {value}"


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_a_number_that_is_not_finite_is_named_by_its_place_in_the_file(tmp_path: Path, number: str) -> None:
    file = tmp_path / "task.json"
    file.write_text(f'{{"modelName": "m", "hyperparameters": {{"learningRate": {number}}}}}')
    result = runner.invoke(app, ["submit", "--file", str(file), "--url", NOWHERE])

    assert result.exit_code == 2
    assert result.stderr.startswith("hyperparameters.learningRate: expected a finite number")


@pytest.mark.parametrize("url", ["http://host:port", "127.0.0.1:8080", "localhost:8080", "http://h:99999", "http://"])
def test_the_error_about_an_invalid_address_shows_the_expected_form(url: str) -> None:
    result = runner.invoke(app, ["tasks", "--url", url])

    assert result.exit_code == 2
    assert result.stderr.startswith(f"--url: '{url}' is not an address; expected http://HOST:PORT")


def test_doctor_reports_an_invalid_address_as_a_broken_gateway() -> None:
    result = runner.invoke(app, ["doctor", "--only", "gateway", "--url", "http://host:port"])

    assert result.exit_code == 1
    assert "expected http://HOST:PORT" in result.output


@pytest.mark.parametrize("command", ["up", "demo"])
@pytest.mark.parametrize("below", ["", "folder"])
def test_a_path_that_cannot_be_a_folder_is_named(tmp_path: Path, command: str, below: str) -> None:
    (tmp_path / "file").touch()
    result = runner.invoke(app, [command, "--folder", str(tmp_path / "file" / below)])

    assert result.exit_code == 2
    assert result.stderr.startswith(f"--folder: {tmp_path / 'file' / below} is not a writable folder")


def test_the_demo_does_not_change_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    result = runner.invoke(app, ["demo", "--folder", str(tmp_path)])

    assert result.exit_code == 1
    assert f"{tmp_path} is not empty: choose another --folder" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_HTTP_PORT", "eighty")
    result = runner.invoke(app, ["control"])

    assert result.exit_code == 2
    assert result.stderr.startswith("TREADLE_HTTP_PORT: ")


def test_doctor_names_what_is_broken_and_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_DATABASE_URL", "postgresql://treadle:secret@127.0.0.1:9/treadle")
    result = runner.invoke(app, ["doctor", "--only", "database", "--only", "gateway", "--url", NOWHERE])

    assert result.exit_code == 1
    assert "secret" not in result.output
    assert "set TREADLE_DATABASE_URL" in result.output
    assert "2 broken" in result.output


def test_doctor_says_that_a_worker_here_would_take_no_commands(tmp_path: Path) -> None:
    full = Settings(work_dir=tmp_path / "work", min_free_disk=ByteSize(2**62))
    (_, check, _) = worker_checks(full)
    assert check.state is CheckState.BROKEN
    assert check.detail.startswith("a worker here takes no commands: it has ")
    (_, check, _) = worker_checks(full.model_copy(update={"min_free_disk": 0}))
    assert check.state is CheckState.FINE
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("address", "state"),
    [("127.0.0.1", CheckState.FINE), ("192.0.2.1", CheckState.OPTIONAL), (None, CheckState.OPTIONAL)],
)
def test_doctor_says_whether_localhost_resolves(
    address: str | None, state: CheckState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(_: str) -> str:
        if address is None:
            raise OSError("Name or service not known")
        return address

    monkeypatch.setattr("socket.gethostbyname", resolve)
    check = worker_checks(Settings(work_dir=tmp_path))[0]
    assert (check.name, check.state) == ("localhost", state)


class StackWithNotice:
    """A local stack that says why it has no RabbitMQ, and then ends the command."""

    notice = "RabbitMQ did not start: it is tired"

    def __init__(self, *_: object, **__: object) -> None:
        """Start nothing."""

    async def __aenter__(self) -> StackWithNotice:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop nothing."""

    def describe(self) -> dict[str, str]:
        raise DemoFailed("enough")

    def settings(self, **_: object) -> Settings:
        raise DemoFailed("enough")


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_command_prints_why_it_goes_on_without_rabbitmq(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.stack.local.LocalStack", StackWithNotice)
    result = runner.invoke(app, [command, "--folder", str(tmp_path / "folder")])
    assert result.output.count(StackWithNotice.notice) == 1


async def test_doctor_lists_the_workers_that_told_control_that_they_are_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"phase": "train", "host": "h", "slots": 1, "busy": 0, "freeDisk": 5, "gpus": []}
    workers = [{"workerId": "sick", "unfit": "has no room", **fields}, {"workerId": "well", "unfit": None, **fields}]
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=workers))
    client = functools.partial(httpx.AsyncClient, transport=transport)
    monkeypatch.setattr("cli.doctor.checks.httpx.AsyncClient", client)
    (check,) = await unfit_worker_checks("http://127.0.0.1:1")
    assert (check.state, check.detail) == (CheckState.BROKEN, "sick on h takes no commands: it has no room")


def test_the_limits_of_a_submission_are_time_spans(refusing: Gateway) -> None:
    limits = ["--train-limit", "2h", "--stall-limit", "30m"]
    runner.invoke(app, ["submit", "--model", "m", "--dataset", "d", *limits, "--url", refusing.url])

    body = json.loads(refusing.received[0][1])
    assert body["limits"] == {"train_seconds": 7200.0, "stall_seconds": 1800.0}


@pytest.mark.parametrize("text", ["0s", "2", "soon", "-1h", "1.5h"])
def test_a_limit_that_is_no_time_span_is_refused(text: str) -> None:
    result = runner.invoke(app, ["submit", "--model", "m", "--dataset", "d", f"--train-limit={text}", "--url", NOWHERE])

    assert result.exit_code == 2
    assert "--train-limit" in result.stderr


@pytest.mark.parametrize("command", ["list", "show", "replay", "purge"])
def test_every_dlq_command_has_help(command: str) -> None:
    assert "Usage" in runner.invoke(app, ["dlq", command, "--help"]).output


def test_dead_letters_of_another_process_are_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_BUS_URL", "in-process")
    result = runner.invoke(app, ["dlq", "list"])

    assert result.exit_code == 2
    assert result.stderr.startswith("TREADLE_BUS_URL: the in-process bus cannot be reached from another process")


def test_topology_lists_every_queue() -> None:
    assert "treadle.submissions" in runner.invoke(app, ["topology", "show"]).output
