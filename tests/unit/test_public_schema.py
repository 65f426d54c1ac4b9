"""The consumer of submissions: its AsyncAPI document, and its handler on FastStream's test broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from faststream.rabbit import RabbitBroker, TestRabbitBroker

from contracts.submissions import CreateTask, SubmissionAccepted, SubmissionRefused, TaskRequest
from contracts.tasks import TaskStatus
from contracts.topology import SUBMISSIONS_QUEUE, TASKS
from contracts.wire import MESSAGES, decode, kind_of, version_of
from control.apply.submissions import Submissions
from control.consumers.submissions.app import EXCHANGE, asyncapi_document, submissions_broker
from control.consumers.submissions.handlers import SUBMISSIONS
from control.consumers.submissions.settling import SettlingMiddleware, SubmissionSettler
from control.store.values import StoredTask
from infra.bus.inprocess import InProcessBus
from infra.bus.port import OutgoingMessage
from infra.telemetry import Tracing
from tests.build import new_task

GOLDEN = Path(__file__).parents[1] / "wire"
ANSWERS = {SubmissionAccepted, SubmissionRefused}

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Recorder:
    """A replacement for `Submissions` that records the requests."""

    def __init__(self) -> None:
        self.received: list[CreateTask | TaskRequest] = []

    async def create(self, submission: CreateTask) -> Any:
        self.received.append(submission)
        return StoredTask(new_task(task_id=submission.task_id), NOW, NOW)

    async def request(self, submission: TaskRequest) -> Any:
        self.received.append(submission)
        return StoredTask(new_task(task_id=submission.task_id), NOW, NOW)


class Answers(InProcessBus):
    """A bus that keeps the answers published on it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[SubmissionAccepted | SubmissionRefused] = []

    async def publish(self, message: OutgoingMessage) -> None:
        assert (message.exchange, message.routing_key) == ("", "me")
        self.kept.append(decode(message.body, SubmissionAccepted, SubmissionRefused))


class Public:
    """The consumer of submissions on a test broker, with the answers that it published."""

    def __init__(self, recorder: Recorder, broker: RabbitBroker, answers: Answers) -> None:
        self.recorder = recorder
        self.broker = broker
        self.answers = answers

    async def publish(self, body: bytes, **options: Any) -> SubmissionAccepted | SubmissionRefused:
        """Publish a submission and return its answer."""
        await self.broker.publish(
            body, exchange=EXCHANGE, routing_key="x", reply_to="me", content_type="application/json", **options
        )
        return self.answers.kept[-1]


@pytest.fixture
async def public() -> AsyncIterator[Public]:
    recorder, answers = Recorder(), Answers()
    settlement = SubmissionSettler(answers, Tracing("test", "test", None))
    broker = submissions_broker(
        cast("Submissions", recorder), url="amqp://nowhere", middlewares=(partial(SettlingMiddleware, settlement),)
    )
    async with TestRabbitBroker(broker):
        yield Public(recorder, broker, answers)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return asyncapi_document(cast("Submissions", Recorder()), "1.2.3")


def golden(kind: type[Any]) -> bytes:
    return (GOLDEN / f"{kind_of(kind)}.v{version_of(kind)}.json").read_bytes()


@pytest.mark.parametrize("kind", SUBMISSIONS, ids=kind_of)
async def test_a_submission_reaches_the_handler_as_its_own_class(public: Public, kind: type[Any]) -> None:
    answer = await public.publish(golden(kind))
    assert public.recorder.received == [decode(golden(kind), kind)]
    assert isinstance(answer, SubmissionAccepted)
    assert answer.status is TaskStatus.PENDING


async def test_a_body_that_fails_validation_is_answered_with_its_fields(public: Public) -> None:
    wrong = {**json.loads(golden(CreateTask)), "task": {"mode": "STANDARD", "surprise": 1}}
    answer = await public.publish(json.dumps(wrong).encode())
    assert isinstance(answer, SubmissionRefused)
    assert answer.submission_id == UUID(wrong["submission_id"])
    assert {"task.STANDARD.surprise", "task.STANDARD.taskName"} <= {error.field for error in answer.problem.errors}
    assert public.recorder.received == []


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"null", b'"text"', b'{"kind": "lease_lost", "version": 1}'])
async def test_a_body_that_is_no_submission_is_refused(public: Public, body: bytes) -> None:
    answer = await public.publish(body)
    assert isinstance(answer, SubmissionRefused)
    assert answer.problem.title == "Undecodable message"


def test_it_is_asyncapi_3_of_the_products_version(document: dict[str, Any]) -> None:
    assert (document["asyncapi"], document["info"]["title"], document["info"]["version"]) == (
        "3.0.0",
        "Treadle",
        "1.2.3",
    )


def test_it_describes_the_queue_of_submissions_and_the_answers(document: dict[str, Any]) -> None:
    assert set(document["channels"]) == {SUBMISSIONS_QUEUE.name, "answer"}
    assert TASKS.name in document["info"]["description"]


def test_every_public_message_has_a_schema_and_no_private_one_has(document: dict[str, Any]) -> None:
    described = set(document["components"]["schemas"]) & {message.__name__ for message in MESSAGES}
    assert described == {message.__name__ for message in (*SUBMISSIONS, *ANSWERS)}


def test_it_names_no_user_and_no_password(document: dict[str, Any]) -> None:
    assert "guest" not in json.dumps(document)
