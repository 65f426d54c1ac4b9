"""`infra/deploy/smoke`, which tests a compose stack, agrees with the gateway and says in one sentence what failed."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from contracts.http import StandardTaskRequest
from control.gateway import datasets, files, health, tasks

SMOKE = Path(__file__).parents[2] / "infra/deploy/smoke"
TEXT = SMOKE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def smoke() -> Any:
    """The script as a module."""
    loader = SourceFileLoader("smoke", str(SMOKE))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    spec = spec_from_loader("smoke", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


class Sent:
    """Takes the place of the stack and keeps what is posted."""

    def post(self, path: str, body: bytes, kind: str = "application/json") -> dict[str, str]:
        self.path, self.body, self.kind = path, body, kind
        return {"taskId": "t", "datasetId": "ds-1"}


def run(*arguments: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SMOKE), *arguments], capture_output=True, text=True, env={"PATH": path})


def test_it_explains_itself() -> None:
    help_text = run("--help").stdout
    assert "--cleanup" in help_text
    assert "kills the trainer" in help_text.replace("\n", " ")


def test_a_stack_that_does_not_answer_is_one_sentence_and_a_status() -> None:
    ended = run("--url", "http://127.0.0.1:9", "--timeout", "0.1")
    assert ended.returncode == 1
    assert re.fullmatch(r"smoke: waited 0 s for http://127\.0\.0\.1:9/readyz: .+\n", ended.stderr)
    assert "failed" in ended.stdout


def test_it_needs_nothing_but_the_standard_library(smoke: Any) -> None:
    imported = set(re.findall(r"^(?:import|from) (\w+)", TEXT, re.MULTILINE))
    assert imported <= sys.stdlib_module_names


def test_it_calls_paths_that_the_gateway_has() -> None:
    routers = (datasets.uploads, files.router, health.router, tasks.router)
    known = {
        re.sub(r"\{\w+(:\w+)?\}", "*", r.path) for router in routers for r in router.routes if isinstance(r, APIRoute)
    }
    called = {
        re.sub(r"\{\w+(\.\w+)?\}|(?<=iterations/)1", "*", path)
        for path in re.findall(r'"(/(?:api/|readyz)[^"?]*)', TEXT)
    }
    called = {path for path in called if path != "/api/tasks/"}
    assert called
    assert called - known == set()


def test_its_task_is_accepted(smoke: Any) -> None:
    sent = Sent()
    smoke.submit(sent, "ds-1")
    task = StandardTaskRequest.model_validate_json(sent.body)
    assert (task.model_name, task.auto_start) == ("/models/treadle-smoke", True)
    assert task.hyperparameters.checkpoint_every < (task.hyperparameters.max_steps or 0)


def test_its_upload_names_the_dataset_before_the_file(smoke: Any) -> None:
    sent = Sent()
    smoke.upload(sent, smoke.rows(20))
    assert sent.body.index(b'name="name"') < sent.body.index(b'name="file"')
    assert sent.body.count(b"\n") > 20


def test_its_rows_are_of_ten_intents(smoke: Any) -> None:
    rows = smoke.rows(300)
    assert (len(rows), len({row["category"] for row in rows})) == (300, 10)
