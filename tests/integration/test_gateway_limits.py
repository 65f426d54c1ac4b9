"""Waiting and capacity have limits: bodies that stall, parts that hang, and too many requests at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import SecretStr

from cli.services.http_server import serve
from control.gateway.history_pages import history_page
from control.gateway.limits import Limits
from control.gateway.row_checks import MAX_WAITING, RowChecks
from control.gateway.upload import MAX_PARTS
from control.service import Control
from control.store.port import StoreUnavailable
from control.store.postgres import PostgresStore
from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings
from tests.chaos.proxy import Proxy
from tests.gateway import Gateway, fields, serving
from tests.integration.test_gateway_upload import FILE, NAME, ROWS, USER, raw
from tests.memory_store import MemoryStore

SHORT = Limits(body_wait=0.3, answer=0.3, uploads=24, streams=2, downloads=1)
HEAD = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
FORM = {"content-type": "multipart/form-data; boundary=edge"}
UPLOAD = "/api/datasets/upload"


@pytest_asyncio.fixture
async def objects(s3_settings: dict[str, object]) -> AsyncIterator[ObjectStore]:
    """A client of the object store, whose bucket exists."""
    store = ObjectStore(Settings(bus_url=SecretStr(IN_PROCESS), **s3_settings))
    await store.start()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def limited(objects: ObjectStore) -> AsyncIterator[Gateway]:
    """A gateway on a real S3 server, with short limits."""
    async with serving(objects, SHORT) as served:
        yield served


async def stalling(release: asyncio.Event, *chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    await release.wait()


async def until(slots: Any, taken: int) -> None:
    while slots._taken != taken:  # noqa: ASYNC110 - slots have no event
        await asyncio.sleep(0.005)


async def test_a_stalled_body_is_408_and_ends_the_connection(limited: Gateway) -> None:
    chunks = stalling(asyncio.Event(), b'{"taskName"')
    headers = {"content-type": "application/json"}
    answer = await limited.http.post("/api/tasks/standard", content=chunks, headers=headers)
    assert (answer.status_code, fields(answer)) == (408, ["body"])
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("before", [(), (HEAD,), (HEAD, ROWS), (HEAD, ROWS, b"\r\n--edge\r\nContent-")])
async def test_a_stalled_upload_is_408_wherever_it_stalls(limited: Gateway, before: tuple[bytes, ...]) -> None:
    answer = await limited.http.post(UPLOAD, content=stalling(asyncio.Event(), *before), headers=FORM)
    assert (answer.status_code, fields(answer)) == (408, ["body"])


async def test_stalled_uploads_hold_no_thread_of_the_object_store(objects: ObjectStore) -> None:
    release, fields_first = asyncio.Event(), raw(NAME, USER, FILE)["content"].partition(b"\r\n--edge--")[0]
    async with serving(objects, Limits(uploads=24)) as gateway:
        stalled = [
            asyncio.create_task(gateway.http.post(UPLOAD, content=stalling(release, fields_first), headers=FORM))
            for _ in range(20)  # the object store has 16 threads for streams
        ]
        await until(_capacity(gateway).uploads, 20)
        answer = await asyncio.wait_for(gateway.http.post(UPLOAD, **raw(NAME, USER, FILE)), 5)
        assert answer.status_code == 201
        release.set()
        await asyncio.gather(*stalled)


async def test_an_upload_too_many_is_refused_at_once(objects: ObjectStore) -> None:
    release = asyncio.Event()
    async with serving(objects, Limits(uploads=2)) as gateway:
        stalled = [
            asyncio.create_task(gateway.http.post(UPLOAD, content=stalling(release, HEAD), headers=FORM))
            for _ in range(2)
        ]
        await until(_capacity(gateway).uploads, 2)
        answer = await asyncio.wait_for(gateway.http.post(UPLOAD, **raw(NAME, USER, FILE)), 2)
        assert (answer.status_code, answer.headers["retry-after"], fields(answer)) == (503, "5", ["uploads"])
        release.set()
        await asyncio.gather(*stalled)
        assert (await gateway.http.post(UPLOAD, **raw(NAME, USER, FILE))).status_code == 201


async def test_a_stream_too_many_is_refused_and_ended_streams_leave_their_place(limited: Gateway) -> None:
    task_id = await limited.create(autoStart=True)
    path = f"/api/tasks/{task_id}/progress"
    streams = [asyncio.create_task(limited.http.get(path)) for _ in range(2)]
    await until(_capacity(limited).streams, 2)
    answer = await limited.http.get(path)
    assert (answer.status_code, answer.headers["retry-after"], fields(answer)) == (503, "5", ["streams"])
    limited.progress_hub.close()
    await asyncio.gather(*streams)
    assert _capacity(limited).streams._taken == 0


async def test_a_download_too_many_is_refused(limited: Gateway) -> None:
    body = (await limited.http.post(UPLOAD, **raw(NAME, USER, FILE))).json()
    path = f"/api/datasets/{body['datasetId']}/files/rows.jsonl"
    with _capacity(limited).downloads.take():
        answer = await limited.http.get(path)
        assert (answer.status_code, fields(answer)) == (503, ["downloads"])
    assert (await limited.http.get(path)).content == ROWS


async def test_an_unknown_form_field_is_refused_before_it_is_read(limited: Gateway) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        yield b'--edge\r\nContent-Disposition: form-data; name="colour"\r\n\r\n'
        for _ in range(1000):
            read += 1
            yield b"x" * 9000

    answer = await limited.http.post(UPLOAD, content=body(), headers=FORM)
    assert (answer.status_code, fields(answer)) == (422, ["colour"])
    assert read < 3


async def test_the_parts_of_a_form_are_counted(limited: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.gateway.upload.MAX_PARTS", 2)
    answer = await limited.http.post(UPLOAD, **raw(NAME, USER, FILE))
    assert (answer.status_code, fields(answer)) == (413, ["body"])
    assert MAX_PARTS <= 16


@pytest.mark.parametrize(
    "disposition", [b"x" * 10_000, b"\r\n".join(b"X-%d: y" % number for number in range(100))], ids=["large", "many"]
)
async def test_the_headers_of_a_part_are_limited(limited: Gateway, disposition: bytes) -> None:
    body = b"--edge\r\nContent-Disposition: " + disposition + b"\r\n\r\nx\r\n--edge--\r\n"
    answer = await limited.http.post(UPLOAD, content=body, headers=FORM)
    assert (answer.status_code, fields(answer)) == (422, ["body"])


async def test_a_long_list_of_errors_is_cut_and_counted(limited: Gateway) -> None:
    body = {f"unknown{number}": 1 for number in range(150)}
    answer = await limited.http.post("/api/tasks/standard", json=body)
    assert len(fields(answer)) == 50
    assert answer.json()["errors"][-1] == {"field": "body", "message": "105 more errors are not listed"}


async def test_an_object_with_very_many_keys_is_refused_at_once(limited: Gateway) -> None:
    body = {f"k{number}": 1 for number in range(60_000)}
    answer = await limited.http.post("/api/tasks/standard", json=body)
    assert (answer.status_code, fields(answer)) == (422, ["body"])


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "POST", "url": "/api/tasks/standard", "json": {"x" * 500_000: 1}},
        {"method": "POST", "url": "/api/tasks/standard", "json": {"modelName": "?" * 1000, "datasetId": "y" * 500_000}},
        {"method": "GET", "url": "/api/tasks/" + "x" * 10_000},
        {"method": "GET", "url": "/" + "x" * 10_000},
        {"method": "GET", "url": "/api/tasks", "params": {"status": "x" * 10_000}},
        {"method": "GET", "url": "/api/tasks", "headers": {"host": "x" * 10_000}},
        {"method": "POST", "url": UPLOAD, "headers": {"content-type": "x" * 10_000}},
        {"method": "POST", "url": UPLOAD, **raw(NAME, USER, ('name="file"; filename="' + "x" * 3000 + '"', ROWS))},
    ],
    ids=lambda request: str(request)[:60],
)
async def test_an_error_does_not_repeat_a_long_input(limited: Gateway, request_: dict[str, Any]) -> None:
    answer = await limited.http.request(**request_)
    assert answer.status_code in {400, 404, 415, 421, 422}
    assert len(answer.content) < 8000


async def test_a_store_that_hangs_is_503_that_names_it(limited: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    limited.missing["database"] = "no answer within 3 seconds"
    monkeypatch.setattr(MemoryStore, "tasks", hanging)
    answer = await asyncio.wait_for(limited.http.get("/api/tasks"), 5)
    assert (answer.status_code, answer.headers["retry-after"], fields(answer)) == (503, "2", ["database"])
    assert "no answer from database within 0.3 seconds" in answer.json()["detail"]


async def test_a_store_that_hangs_is_503_for_a_task_and_for_its_changes(
    limited: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await limited.create()
    limited.missing["database"] = "no answer within 3 seconds"
    monkeypatch.setattr(MemoryStore, "load", hanging)
    answer = await asyncio.wait_for(limited.http.post(f"/api/tasks/{task_id}/start"), 5)
    assert (answer.status_code, fields(answer)) == (503, ["database"])


async def test_a_store_that_hangs_after_an_upload_is_503(limited: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    limited.missing["database"] = "no answer within 3 seconds"
    monkeypatch.setattr(MemoryStore, "add_dataset", hanging)
    answer = await asyncio.wait_for(limited.http.post(UPLOAD, **raw(NAME, USER, FILE)), 5)
    assert (answer.status_code, fields(answer)) == (503, ["database"])


async def test_metrics_are_served_while_the_store_hangs(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.telemetry.gauges.STORE_TIMEOUT", 0.1)
    monkeypatch.setattr(MemoryStore, "counts", hanging)
    answer = await asyncio.wait_for(gateway.http.get("/metrics"), 5)
    assert "treadle_store_up 0.0" in answer.text


async def test_checks_that_wait_are_limited(objects: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(objects) as gateway:
        await gateway.http.post(UPLOAD, **raw(NAME, USER, FILE))
        (dataset,) = [d for d in await gateway.store.datasets(1) if d.dataset_id != "rows"]
        monkeypatch.setattr(RowChecks, "_run", hanging)
        path = f"/api/datasets/{dataset.dataset_id}/check"
        checks = [asyncio.create_task(gateway.http.post(path)) for _ in range(MAX_WAITING + 1)]
        row_checks = gateway.http._transport.app.state.parts.row_checks  # type: ignore[attr-defined]
        await until(row_checks._waiting, MAX_WAITING)
        answer = await asyncio.wait_for(gateway.http.post(path), 5)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)


async def test_a_page_of_history_ends_when_it_is_large(limited: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = await limited.create()
    for action in ("start", "pause", "resume", "cancel"):
        await limited.http.post(f"/api/tasks/{task_id}/{action}")
    every = [row async for row in history_page(limited.store, task_id, 0, 1000)]
    monkeypatch.setattr("control.gateway.history_pages.MAX_BYTES", 1)
    monkeypatch.setattr("control.gateway.history_pages.ROWS_PER_READ", 2)
    pages, after = [], 0
    while page := [row async for row in history_page(limited.store, task_id, after, 1000)]:
        pages.append(page)
        after = page[-1].id
    assert [len(page) for page in pages] == [1] * len(every)
    assert [row for page in pages for row in page] == every


async def test_a_page_of_history_has_as_many_rows_as_are_asked_for(
    limited: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await limited.create()
    for action in ("start", "pause", "resume", "cancel"):
        await limited.http.post(f"/api/tasks/{task_id}/{action}")
    monkeypatch.setattr("control.gateway.history_pages.ROWS_PER_READ", 2)
    assert [len([row async for row in history_page(limited.store, task_id, 0, n)]) for n in range(1, 7)] == [
        1,
        2,
        3,
        4,
        5,
        5,
    ]


@asynccontextmanager
async def stallable(port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(lambda: port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


async def test_an_object_store_that_hangs_is_503_for_uploads_and_downloads_and_not_ready(
    s3_settings: dict[str, object],
) -> None:
    async with stallable(urlsplit(str(s3_settings["s3_endpoint"])).port or 0) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}"
        settings = Settings(bus_url=SecretStr(IN_PROCESS), **{**s3_settings, "s3_endpoint": endpoint})
        objects = ObjectStore(settings, call_timeout=0.5)
        await objects.start()
        async with serving(objects) as gateway:
            body = (await gateway.http.post(UPLOAD, **raw(NAME, USER, FILE))).json()
            proxy.stall()
            began = time.monotonic()
            answers = [
                await gateway.http.post(UPLOAD, **raw(NAME, USER, FILE)),
                await gateway.http.post(UPLOAD, **raw(FILE, NAME, USER)),
                await gateway.http.get(f"/api/datasets/{body['datasetId']}/files"),
                await gateway.http.get(f"/api/datasets/{body['datasetId']}/files/rows.jsonl"),
            ]
            assert [(answer.status_code, fields(answer)) for answer in answers] == [(503, ["object_store"])] * 4
            assert time.monotonic() - began < 4
            proxy.flow()
            assert (await gateway.http.post(UPLOAD, **raw(NAME, USER, FILE))).status_code == 201
        await objects.close()


async def test_a_cancelled_statement_on_a_database_that_hangs_returns_soon(database_url: str) -> None:
    address = urlsplit(database_url)
    async with stallable(address.port or 5432) as proxy:
        store = await PostgresStore.open(database_url.replace(f":{address.port}/", f":{proxy.port}/"), lambda _: 15.0)
        proxy.stall()
        began = time.monotonic()
        with pytest.raises((TimeoutError, StoreUnavailable)):
            async with asyncio.timeout(0.2):
                await store.now()
        assert time.monotonic() - began < 4
        proxy.flow()
        await store.close()


async def test_readiness_asks_all_parts_at_once_and_names_those_that_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("control.service.CHECK_TIMEOUT", 0.3)
    monkeypatch.setattr("control.service.BROKER_TIMEOUT", 0.3)
    control = Control.__new__(Control)
    control.parts = _HangingParts()  # type: ignore[assignment]
    control._subscriptions, control._loops, control._submission_consumer = {}, (), None
    began = time.monotonic()
    assert await control.readiness() == {
        "database": "no answer within 0.3 seconds",
        "object_store": "no answer within 0.3 seconds",
        "broker": "it did not answer within 0.3 seconds",
    }
    assert time.monotonic() - began < 0.55


class _Hanging:
    async def now(self) -> None:
        await hanging()

    async def ping(self) -> None:
        await hanging()

    async def missing(self) -> None:
        await hanging()

    async def request(self, *_: object, **__: object) -> None:
        await hanging()


class _HangingParts:
    store = objects = bus = _Hanging()


async def hanging(*_: object) -> None:
    await asyncio.Event().wait()


def _capacity(gateway: Gateway) -> Any:
    return gateway.http._transport.app.state.parts.capacity  # type: ignore[attr-defined]


async def test_sixteen_stalled_uploads_over_real_connections_let_an_honest_one_through(objects: ObjectStore) -> None:
    async with serving(objects, Limits(body_wait=1.0)) as gateway:
        app: FastAPI = gateway.http._transport.app  # type: ignore[attr-defined]
        async with serve(app, "127.0.0.1", 0, lambda: None) as url:
            port = int(url.rpartition(":")[2])
            head = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM['content-type']}\r\n"
            begun = raw(NAME, USER, FILE)["content"].partition(b"\r\n--edge--")[0]
            stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(16)]
            for _, writer in stalled:
                writer.write(f"{head}Content-Length: 100000\r\n\r\n".encode() + begun)
            await until(_capacity(gateway).uploads, 16)
            async with httpx.AsyncClient(base_url=url) as http:
                answer = await http.post(UPLOAD, **raw(NAME, USER, FILE), timeout=5)
            assert answer.status_code == 201
            answers = [await asyncio.wait_for(reader.read(), 10) for reader, _ in stalled]  # until they are closed
            assert {answer.split(b" ", 2)[1] for answer in answers} == {b"408"}
            for _, writer in stalled:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
