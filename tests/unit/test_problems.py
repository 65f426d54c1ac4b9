from __future__ import annotations

from http import HTTPStatus
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from contracts.errors import FieldError, InvalidInput, TreadleError
from contracts.submissions import Problem
from contracts.tasks import TaskStatus
from control.gateway.errors import RequestRejected, install_error_handlers
from control.machine.task import IllegalTransition
from control.store.port import StoreUnavailable, TaskNotFound
from control.store.values import SubmissionConflict
from infra.objects import ObjectStoreUnavailable

TASK = uuid4()
WRONG = FieldError(field="epochs", message="expected a positive number")


class Unforeseen(TreadleError):
    """An error that no route expects."""


async def answer_to(error: Exception) -> httpx.Response:
    """The answer of a route that raises `error`."""
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/thing")
    async def thing() -> None:
        raise error

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://treadle") as http:
        return await http.get("/thing")


@pytest.mark.parametrize(
    ("error", "status", "named"),
    [
        (InvalidInput((WRONG,)), 422, ["epochs"]),
        (RequestRejected(HTTPStatus.CONFLICT, "name", "taken"), 409, ["name"]),
        (TaskNotFound(TASK), 404, ["taskId"]),
        (IllegalTransition(TASK, TaskStatus.FAILED, "start_task", "PENDING"), 409, ["status"]),
        (SubmissionConflict(TASK), 409, ["Idempotency-Key"]),
        (StoreUnavailable("away"), 503, ["database"]),
        (ObjectStoreUnavailable("away"), 503, ["object_store"]),
        (Unforeseen("a secret detail"), 500, []),
        (KeyError("a secret detail"), 500, []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_an_error_is_a_problem_that_names_its_field(error: Exception, status: int, named: list[str]) -> None:
    answer = await answer_to(error)
    problem = Problem.model_validate_json(answer.content)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem.status, [e.field for e in problem.errors]) == (status, status, named)


@pytest.mark.parametrize("error", [Unforeseen("a secret detail"), KeyError("a secret detail")])
async def test_the_answer_to_an_unforeseen_error_does_not_show_its_text(error: Exception) -> None:
    assert "secret" not in (await answer_to(error)).text


async def test_the_answer_about_an_unavailable_part_has_a_retry_after_header() -> None:
    assert (await answer_to(StoreUnavailable("away"))).headers["retry-after"] == "2"


async def test_a_problem_names_the_path_of_its_request() -> None:
    assert (await answer_to(TaskNotFound(TASK))).json()["instance"] == "/thing"
