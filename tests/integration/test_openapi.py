"""The OpenAPI document matches the server: schemathesis sends generated requests to a real one.

`TREADLE_TEST_OPENAPI_EXAMPLES` is the number of requests for each operation and kind; the default suits `make test`.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from cli.services.http_server import serve
from control.gateway.app import build_app
from control.gateway.parts import GatewayParts
from infra.objects import ObjectStore
from tests.gateway import STANDARD, serving
from tests.memory_objects import MemoryObjects

EXAMPLES = int(os.environ.get("TREADLE_TEST_OPENAPI_EXAMPLES", "8"))
CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "415", "416", "422"]},
            "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "501"]},
        }
    }
)
"""Deviations from what schemathesis expects, each with its reason.

- 422 for a valid body: it refers to a dataset, a task or a model that does not exist, or a rule joins two fields
  (`startAfterSeconds` needs `autoStart`).
- 415: the name, the type or the first bytes of a file are not those of rows.
- 416: a range is valid by its form, and begins after the end of a file.
- 501: this server has no program that checks rows, as a control process without the libraries of a worker.
"""
STEPS = 10
"""Requests about one task."""
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
RUN = hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,
    suppress_health_check=SLOW,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    verbosity=Verbosity.quiet,
    database=None,
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a gateway that runs in its own thread, with stores in memory."""
    addresses: queue.Queue[str] = queue.Queue()
    loops: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def run() -> None:
        stop = asyncio.Event()
        loops.put((asyncio.get_running_loop(), stop))
        async with serving(cast("ObjectStore", MemoryObjects()), check_program=None) as gateway:
            app: Any = gateway.http._transport.app  # type: ignore[attr-defined]
            async with serve(app, "127.0.0.1", 0, gateway.progress_hub.close) as address:
                addresses.put(address)
                await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    yield addresses.get(timeout=30)
    loop, stop = loops.get()
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


@pytest.fixture(scope="module")
def schema(url: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{url}/openapi.json", config=CONFIG)


DOCUMENT = build_app(cast("GatewayParts", None)).openapi()
OPERATIONS = [
    (method.upper(), path, mode)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or "parameters" in operation or "requestBody" in operation
]
"""Every operation, with valid inputs, and with invalid ones if it has inputs."""


@pytest.mark.parametrize(("method", "path", "mode"), OPERATIONS, ids=str)
def test_an_operation_answers_as_it_is_documented(
    schema: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schema[path][method]

    @RUN
    @given(operation.as_strategy(generation_mode=mode))
    def answers(case: schemathesis.Case) -> None:
        case.call_and_validate(timeout=10)

    answers()


FOLLOWING = [
    (method, path, mode)
    for method, path, mode in OPERATIONS
    if "{taskId}" in path and not path.endswith("/progress")  # whose stream has no end while the task has none
]


def test_requests_that_follow_one_another_are_answered_as_they_are_documented(
    schema: schemathesis.BaseSchema, url: str
) -> None:
    statuses = Counter[int]()

    @RUN
    @given(st.data())
    def answers(data: st.DataObject) -> None:
        task_id = httpx.post(f"{url}/api/tasks/standard", json=STANDARD).json()["taskId"]
        for _ in range(STEPS):
            method, path, mode = data.draw(st.sampled_from(FOLLOWING))
            given_path = {"taskId": task_id, "iteration": 1, "path": "data/rows.jsonl", "attempt": "9/train/a9"}
            named = {name: value for name, value in given_path.items() if f"{{{name}}}" in path}
            case = data.draw(schema[path][method].as_strategy(generation_mode=mode, path_parameters=named))
            statuses[case.call_and_validate(timeout=10).status_code] += 1

    answers()
    assert {200, 409, 422} <= statuses.keys()
