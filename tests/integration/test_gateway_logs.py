"""The log of an attempt over HTTP: pages by bytes, and a stream until the attempt has ended, on a real object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from httpx_sse import EventSource

from cli.services.http_server import serve
from contracts.artifacts import log_part
from contracts.tasks import AttemptKey
from control.gateway import log_stream
from control.gateway.limits import Limits
from control.gateway.logs import LARGEST_PAGE, PAGE
from infra.objects import ObjectStore
from tests.build import failed
from tests.eventually import eventually
from tests.gateway import Gateway, fields, serving
from tests.integration.test_gateway_files import claimed

LINES = b"".join(b"line %05d\n" % number for number in range(10_000))
CUT = [(0, b"first\nhalf a li"), (1_000_000, b"last\n")]


@pytest_asyncio.fixture
async def gateway(objects: ObjectStore) -> AsyncIterator[Gateway]:
    async with serving(objects, Limits(streams=2, downloads=1)) as served:
        yield served


async def running(gateway: Gateway) -> AttemptKey:
    """A task whose first attempt a worker has claimed."""
    task_id = await gateway.create("continuous", maxIterations=3, performanceThreshold=0.9, autoStart=True)
    key = (await claimed(gateway, task_id)).key
    assert key is not None
    return key


async def write(objects: ObjectStore, key: AttemptKey, *parts: tuple[int, bytes]) -> None:
    for start, data in parts:
        await objects.put(log_part(key, start), data)


async def fail(gateway: Gateway, key: AttemptKey) -> None:
    await gateway.apply_event(failed((await gateway.store.task(key.task_id)).task))


async def get(gateway: Gateway, key: AttemptKey, **query: Any) -> httpx.Response:
    return await gateway.http.get(address(key), params=query)


def address(key: AttemptKey) -> str:
    return f"/api/tasks/{key.task_id}/attempts/{key.name}/log"


def place(answer: httpx.Response) -> tuple[int, ...]:
    assert answer.status_code == 200, answer.text
    return tuple(int(answer.headers[f"log-{name}"]) for name in ("offset", "next-offset", "size"))


def events(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    answer = httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})
    return [(event.event, event.id, event.json()) for event in EventSource(answer).iter_sse() if event.data]


async def test_a_log_is_plain_text_that_no_browser_interprets(gateway: Gateway, objects: ObjectStore) -> None:
    key = await running(gateway)
    await write(objects, key, (0, b"<script>\x00\xff\x1b[2J"))
    answer = await get(gateway, key)
    assert answer.content == b"<script>\x00\xff\x1b[2J"
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert (place(answer), answer.headers["log-ended"]) == ((0, 14, 14), "false")


async def test_by_default_the_last_whole_lines_are_returned(gateway: Gateway, objects: ObjectStore) -> None:
    key = await running(gateway)
    await write(objects, key, (0, LINES))
    answer = await get(gateway, key)
    offset, following, size = place(answer)
    assert (following, size, LINES[offset:]) == (len(LINES), len(LINES), answer.content)
    assert answer.content.startswith(b"line ")
    assert PAGE - 20 < len(answer.content) <= PAGE


async def test_the_pages_of_a_log_are_the_whole_log(gateway: Gateway, objects: ObjectStore) -> None:
    key = await running(gateway)
    await write(objects, key, (0, LINES[:50_000]), (50_000, LINES[50_000:]))
    read, offset = b"", 0
    while offset < len(LINES):
        answer = await get(gateway, key, offset=offset, limit=30_001)
        read += answer.content
        offset = place(answer)[1]
    assert read == LINES
    assert (await get(gateway, key, offset=offset)).content == b""


async def test_the_tail_begins_with_a_line(gateway: Gateway, objects: ObjectStore) -> None:
    key = await running(gateway)
    await write(objects, key, (0, LINES))
    assert (await get(gateway, key, tail=25)).content == LINES[-22:]
    assert place(await get(gateway, key, tail=0)) == (len(LINES), len(LINES), len(LINES))


async def test_a_line_says_how_many_bytes_were_left_out(gateway: Gateway, objects: ObjectStore) -> None:
    key = await running(gateway)
    await write(objects, key, *CUT)
    left_out = f"[treadle: {1_000_000 - len(CUT[0][1]):,} bytes of this log are left out here]\n"
    answer = await get(gateway, key, offset=0)
    assert answer.text == f"first\nhalf a li\n{left_out}last\n"
    assert place(answer) == (0, 1_000_005, 1_000_005)
    assert (await get(gateway, key, offset=0, limit=len(CUT[0][1]))).text == "first\nhalf a li"
    assert (await get(gateway, key, offset=len(CUT[0][1]))).text == f"{left_out}last\n"
    assert (await get(gateway, key, offset=1_000_001)).text == "ast\n"
    assert (await get(gateway, key)).text.endswith("left out here]\nlast\n")


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "beyond the end": ({"offset": 6}, 416, "offset"),
    "both": ({"offset": 1, "tail": 1}, 422, "tail"),
    "too large": ({"limit": LARGEST_PAGE + 1}, 422, "limit"),
    "negative": ({"tail": -1}, 422, "tail"),
    "unknown": ({"lines": 5}, 422, "lines"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_query_is_named(gateway: Gateway, objects: ObjectStore, name: str) -> None:
    query, status, field = WRONG[name]
    key = await running(gateway)
    await write(objects, key, (0, b"12345"))
    answer = await get(gateway, key, **query)
    assert (answer.status_code, fields(answer)) == (status, [field])


async def test_an_unknown_task_or_attempt_is_named(gateway: Gateway) -> None:
    key = await running(gateway)
    unknown = key.model_copy(update={"task_id": uuid4()})
    later = key.model_copy(update={"attempt": 7})
    task = f"/api/tasks/{key.task_id}/attempts"
    answers = [
        await get(gateway, unknown),
        await get(gateway, later),
        await gateway.http.get(f"{task}/1/train/a99999999999/log"),
        await gateway.http.get(f"{task}/1/training/a1/log"),
        await gateway.http.get(f"{task}/..%2f..%2fx/log"),
    ]
    assert [(answer.status_code, fields(answer)) for answer in answers] == [
        (404, ["taskId"]), (404, ["attempt"]), (404, ["attempt"]), (422, ["attempt"]), (422, ["attempt"]),
    ]  # fmt: skip


async def test_a_name_with_encoded_slashes_is_the_same_attempt(gateway: Gateway, objects: ObjectStore) -> None:
    key = await running(gateway)
    await write(objects, key, (0, b"x"))
    encoded = key.name.replace("/", "%2F")
    assert (await gateway.http.get(f"/api/tasks/{key.task_id}/attempts/{encoded}/log")).text == "x"


async def test_a_missing_log_says_why(gateway: Gateway) -> None:
    task_id = await gateway.create(autoStart=True)
    key = (await gateway.store.task(task_id)).task.key
    assert key is not None
    waits = await get(gateway, key)
    await claimed(gateway, task_id)
    runs = await get(gateway, key)
    await fail(gateway, key)
    ended = await get(gateway, key)
    cancelled = await gateway.create(autoStart=True)
    unclaimed = (await gateway.store.task(cancelled)).task.key
    assert unclaimed is not None
    await gateway.http.post(f"/api/tasks/{cancelled}/cancel")
    never = await get(gateway, unclaimed)
    for answer, words in ((waits, "waits for"), (runs, "runs and"), (ended, "retention"), (never, "no worker ran")):
        assert (answer.status_code, fields(answer), words in answer.json()["detail"]) == (404, ["log"], True)


async def test_a_log_is_followed_until_its_attempt_ends(
    gateway: Gateway, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "POLL_INTERVAL", 0.02)
    key = await running(gateway)
    stream = asyncio.create_task(get(gateway, key, follow="true", offset=0))
    await asyncio.wait_for(gateway.progress_hub.waiting.wait(), 5)
    await write(objects, key, (0, b"one\n"))
    await asyncio.sleep(0.2)
    await write(objects, key, (0, b"one\ntwo\xff"))
    await fail(gateway, key)
    answer = await asyncio.wait_for(stream, 5)
    *chunks, end = events(answer.text)
    assert "".join(data["text"] for _, _, data in chunks) == "one\ntwo\\xff"
    assert [(kind, place, data["offset"]) for kind, place, data in chunks] == [("log", "4", 0), ("log", "8", 4)]
    assert end == ("end", "8", {"status": "failed"})


async def test_a_stream_resumes_after_the_last_event_and_ends_with_204(gateway: Gateway, objects: ObjectStore) -> None:
    key = await running(gateway)
    await write(objects, key, (0, b"one\ntwo\n"))
    await fail(gateway, key)
    rest, nothing = [
        await gateway.http.get(address(key), params={"follow": "true"}, headers={"Last-Event-ID": last})
        for last in ("4", "8")
    ]
    assert [data.get("text") for _, _, data in events(rest.text)] == ["two\n", None]
    assert nothing.status_code == 204


async def test_a_large_log_is_followed_in_lines(gateway: Gateway, objects: ObjectStore) -> None:
    key = await running(gateway)
    await write(objects, key, (0, LINES))
    await fail(gateway, key)
    texts = [data["text"] for kind, _, data in events((await get(gateway, key, follow="true", offset=0)).text)[:-1]]
    assert "".join(texts).encode() == LINES
    assert all(text.endswith("\n") for text in texts)


async def test_the_log_of_a_cancelled_attempt_is_followed_until_its_worker_had_time_to_upload_the_rest(
    gateway: Gateway, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "POLL_INTERVAL", 0.02)
    monkeypatch.setattr(log_stream, "LATE_UPLOAD", 0.5)
    key = await running(gateway)
    stream = asyncio.create_task(get(gateway, key, follow="true", offset=0))
    await asyncio.wait_for(gateway.progress_hub.waiting.wait(), 5)
    await gateway.http.post(f"/api/tasks/{key.task_id}/cancel")
    await write(objects, key, (0, b"stopped\n"))
    chunk, end = events((await asyncio.wait_for(stream, 5)).text)
    assert (chunk[2]["text"], end[2]) == ("stopped\n", {"status": "cancelled"})


async def test_a_quiet_stream_sends_comments_and_ends_when_control_stops(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "POLL_INTERVAL", 0.02)
    monkeypatch.setattr(log_stream, "PING_INTERVAL", 0.05)
    stream = asyncio.create_task(get(gateway, await running(gateway), follow="true"))
    await asyncio.wait_for(gateway.progress_hub.waiting.wait(), 5)
    await asyncio.sleep(0.2)
    gateway.progress_hub.close()
    assert (await asyncio.wait_for(stream, 5)).text.startswith(": ping\n\n")


async def test_streams_have_their_slots_and_a_client_that_leaves_frees_its_own(gateway: Gateway) -> None:
    key = await running(gateway)
    app: Any = gateway.http._transport.app  # type: ignore[attr-defined]
    async with serve(app, "127.0.0.1", 0, gateway.progress_hub.close) as url, httpx.AsyncClient(base_url=url) as http:
        query = {"follow": "true"}
        async with http.stream("GET", address(key), params=query), http.stream("GET", address(key), params=query):
            refused = await http.get(address(key), params=query)
            assert (refused.status_code, fields(refused)) == (503, ["streams"])

        async def is_free() -> bool:
            async with http.stream("GET", address(key), params=query) as answer:
                return answer.status_code == 200

        await eventually(is_free, "a free slot")


def test_the_key_of_a_log_has_the_phase_and_the_attempt() -> None:
    key = AttemptKey.model_validate({"task_id": UUID(int=1), "iteration": 2, "phase": "train", "attempt": 3})
    assert log_part(key, 5) == f"logs/{UUID(int=1)}/2/train/a3/000000000000005.txt"
