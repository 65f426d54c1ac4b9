"""What the gateway refuses although HTTP, JSON or FastAPI would take it, and the headers of every answer."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from contracts.http import TaskBody
from control.gateway.docs import Asset
from control.gateway.errors import RequestRejected
from control.gateway.json_bodies import read_json
from control.gateway.security_headers import HEADERS
from tests.gateway import STANDARD, Gateway, fields
from tests.integration.test_gateway_limits import objects
from tests.integration.test_gateway_upload import FILE, NAME, ROWS, USER, raw
from tests.memory_store import MemoryStore

__all__ = ["objects"]

JSON = {"content-type": "application/json"}
TASKS = "/api/tasks/standard"
UPLOAD = "/api/datasets/upload"
FOREIGN = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}


async def post(gateway: Gateway, body: bytes | str, **headers: str) -> httpx.Response:
    return await gateway.http.post(TASKS, content=body, headers={**JSON, **headers})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"userId": 1, "taskName": "a", "userId": 2}', "userId"),
        ('{"userId": 1, "hyperparameters": {"epochs": 1, "epochs": 2}}', "epochs"),
        ('{"userId": 1, "userId": 1}', "userId"),
        ('[{"a": 1, "a": 2}]', "a"),
        ('{"' + "k" * 5000 + '": 1, "' + "k" * 5000 + '": 2}', "k" * 199 + "…"),
    ],
    ids=lambda value: value[:40],
)
async def test_a_key_that_occurs_twice_is_named(gateway: Gateway, body: str, field: str) -> None:
    answer = await post(gateway, body)
    assert (answer.status_code, fields(answer)) == (422, [field])


async def test_a_key_that_occurs_twice_in_a_json_string_is_refused(gateway: Gateway) -> None:
    body = {**STANDARD, "hyperparameters": '{"epochs": 1, "epochs": 2}'}
    answer = await gateway.http.post(TASKS, json=body)
    assert (answer.status_code, fields(answer)) == (422, ["hyperparameters"])
    assert "'epochs' occurs twice" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b'{"taskName": "\xff"}',
        json.dumps(STANDARD).encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"userId": ' + b"9" * 5000 + b"}",
        b"{",
        b"nan",
        b"{} {}",
        b"'a'",
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_what_is_no_strict_json_is_422_about_the_body(gateway: Gateway, body: bytes) -> None:
    answer = await post(gateway, body)
    assert (answer.status_code, fields(answer)) == (422, ["body"])


async def test_a_byte_order_mark_is_skipped(gateway: Gateway) -> None:
    assert (await post(gateway, b"\xef\xbb\xbf" + json.dumps(STANDARD).encode())).status_code == 201


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_every_json_value_is_read_as_it_was_written(value: object) -> None:
    assert read_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_read_or_refused_with_422(body: bytes) -> None:
    status = 422
    try:
        read_json(body)
    except RequestRejected as refused:
        status = refused.status
    assert status == 422


@pytest.mark.parametrize("user", [True, False, "1", 1.0, None])
async def test_only_an_integer_is_a_user(gateway: Gateway, user: object) -> None:
    answer = await gateway.http.post(TASKS, json={**STANDARD, "userId": user})
    assert (answer.status_code, fields(answer)) == (422, ["userId"])
    assert "user_id" in TaskBody.model_fields


@pytest.mark.parametrize("path", [TASKS, UPLOAD, "/api/datasets/rows/check"])
async def test_an_encoded_body_is_refused(gateway: Gateway, path: str) -> None:
    kind = "multipart/form-data; boundary=edge" if path == UPLOAD else "application/json"
    for encoding in ("gzip", "br", "deflate", "gzip, identity", "x"):
        headers = {"content-type": kind, "content-encoding": encoding}
        answer = await gateway.http.post(path, content=gzip.compress(b"{}"), headers=headers)
        assert (answer.status_code, fields(answer)) == (415, ["Content-Encoding"])


async def test_a_body_with_two_lengths_is_refused_and_ends_the_connection(gateway: Gateway) -> None:
    headers = {**JSON, "content-length": "2", "transfer-encoding": "chunked"}
    answer = await gateway.http.post(TASKS, content=b"{}", headers=headers)
    assert (answer.status_code, fields(answer)) == (400, ["Content-Length"])
    assert answer.headers["connection"] == "close"


async def test_identity_is_no_encoding(gateway: Gateway) -> None:
    assert (await post(gateway, json.dumps(STANDARD), **{"content-encoding": "identity"})).status_code == 201


@pytest.mark.parametrize("header", ["Idempotency-Key", "Content-Type", "Content-Encoding"])
async def test_a_header_that_occurs_twice_is_named(gateway: Gateway, header: str) -> None:
    headers = [*JSON.items(), (header, "identity"), (header, "identity")]
    answer = await gateway.http.post(TASKS, content=json.dumps(STANDARD), headers=headers)
    assert (answer.status_code, fields(answer)) == (422, [header])


async def test_a_parameter_that_occurs_twice_is_named(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/tasks?page=1&page=2")
    assert (answer.status_code, fields(answer)) == (422, ["page"])


@pytest.mark.parametrize("path", [TASKS, "/api/tasks/continuous", UPLOAD])
async def test_a_path_for_creating_is_405_for_other_methods(gateway: Gateway, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        answer = await gateway.http.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST"), method


async def test_head_is_not_served(gateway: Gateway) -> None:
    for path in ("/api/tasks", "/healthz", "/docs"):
        answer = await gateway.http.head(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


async def test_no_address_is_made_from_the_host_header(gateway: Gateway) -> None:
    for path in ("/api/tasks/", "/api/datasets/upload/", "//api/tasks", "/healthz/"):
        answer = await gateway.http.get(path)
        assert answer.status_code in {404, 422}
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(ROWS), "gzip"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"PAR1rest", "Parquet"),
        (b"\xfd7zXZ\x00rest", "xz"),
        (b"\x28\xb5\x2f\xfdrest", "zstd"),
        (b"BZh91AY", "bzip2"),
        (b"SQLite format 3\x00rest", "SQLite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_binary_file_is_refused_whatever_its_name_says(gateway: Gateway, content: bytes, kind: str) -> None:
    for name in ("rows.csv", "rows.json", "rows.jsonl"):
        answer = await gateway.http.post(UPLOAD, **raw(NAME, USER, (f'name="file"; filename="{name}"', content)))
        assert (answer.status_code, fields(answer)) == (415, ["file"])
        assert kind in answer.json()["detail"]


async def test_a_binary_file_is_recognized_if_it_arrives_byte_by_byte(gateway: Gateway) -> None:
    request = raw(NAME, USER, ('name="file"; filename="rows.csv"', gzip.compress(ROWS)))

    async def bytes_of(content: bytes) -> AsyncIterator[bytes]:
        for byte in content:
            yield bytes([byte])

    answer = await gateway.http.post(UPLOAD, **{**request, "content": bytes_of(request["content"])})
    assert (answer.status_code, fields(answer)) == (415, ["file"])


async def test_a_file_shorter_than_a_signature_is_stored(storing_gateway: Gateway) -> None:
    answer = await storing_gateway.http.post(UPLOAD, **raw(NAME, USER, ('name="file"; filename="a.csv"', b"P")))
    assert answer.status_code == 201


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Transfer-Encoding: base64"])
async def test_an_encoded_file_is_refused(gateway: Gateway, header: str) -> None:
    request = raw(NAME, USER, FILE)
    content = request["content"].replace(b'rows.jsonl"', f'rows.jsonl"\r\n{header}'.encode())
    answer = await gateway.http.post(UPLOAD, **{**request, "content": content})
    assert (answer.status_code, fields(answer)) == (415, ["file"])


REQUESTS: list[tuple[int, dict[str, Any]]] = [
    (200, {"method": "GET", "url": "/healthz"}),
    (200, {"method": "GET", "url": "/metrics"}),
    (200, {"method": "GET", "url": "/docs"}),
    (200, {"method": "GET", "url": "/docs/swagger-ui-bundle.js"}),
    (200, {"method": "GET", "url": "/openapi.json"}),
    (201, {"method": "POST", "url": TASKS, "json": STANDARD}),
    (403, {"method": "POST", "url": TASKS, "json": STANDARD, "headers": FOREIGN}),
    (404, {"method": "GET", "url": "/nowhere"}),
    (404, {"method": "GET", "url": "/redoc"}),
    (405, {"method": "DELETE", "url": "/api/tasks"}),
    (413, {"method": "POST", "url": TASKS, "content": b" " * 2**21, "headers": JSON}),
    (415, {"method": "POST", "url": TASKS, "content": b"x"}),
    (421, {"method": "GET", "url": "/api/tasks", "headers": {"host": "evil.example"}}),
    (422, {"method": "POST", "url": TASKS, "json": {}}),
    (500, {"method": "GET", "url": "/api/datasets/user/1"}),
]


@pytest_asyncio.fixture
async def breaking(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway on which one route has a bug."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MemoryStore, "datasets", broken)
    return gateway


async def test_every_answer_has_the_security_headers(breaking: Gateway) -> None:
    for status, request in REQUESTS:
        answer = await breaking.http.request(**request)
        assert answer.status_code == status, request
        assert {name.lower() for name in HEADERS} <= answer.headers.keys(), request
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_no_answer_allows_another_origin(breaking: Gateway) -> None:
    for status, request in REQUESTS:
        headers = {**request.get("headers", {}), **FOREIGN}
        answer = await breaking.http.request(**{**request, "headers": headers})
        assert answer.status_code == (421 if status == 421 else 403), request
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_stream_has_the_security_headers(gateway: Gateway) -> None:
    task_id = await gateway.create()
    await gateway.http.post(f"/api/tasks/{task_id}/cancel")
    answer = await gateway.http.get(f"/api/tasks/{task_id}/progress")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert {name.lower() for name in HEADERS} <= answer.headers.keys()


async def test_a_download_of_html_is_an_attachment_that_no_browser_shows(storing_gateway: Gateway) -> None:
    page = b"<script>alert(1)</script>\n"
    request = raw(NAME, USER, ('name="file"; filename="a.csv"\r\nContent-Type: text/csv', page))
    body = (await storing_gateway.http.post(UPLOAD, **request)).json()
    answer = await storing_gateway.http.get(f"/api/datasets/{body['datasetId']}/files/a.csv")
    assert (answer.content, answer.headers["content-type"]) == (page, "application/octet-stream")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert {name.lower() for name in HEADERS} <= answer.headers.keys()


PATHS = ("/api/tasks", "/docs", "/metrics", "/readyz", "/openapi.json", "/asyncapi.json", "/api/datasets/user/1", "/no")


async def test_a_page_whose_name_leads_here_reads_nothing(gateway: Gateway) -> None:
    for path in PATHS:
        answer = await gateway.http.get(path, headers={"host": "evil.example:18080"})
        assert (answer.status_code, fields(answer)) == (421, ["Host"])


async def test_a_page_whose_name_leads_here_cannot_follow_a_task(gateway: Gateway) -> None:
    task_id = await gateway.create()
    answer = await gateway.http.get(f"/api/tasks/{task_id}/progress", headers={"host": "evil.example"})
    assert answer.status_code == 421


@pytest.mark.parametrize("action", ["start", "pause", "resume", "cancel", "retry"])
async def test_a_foreign_page_changes_no_task(gateway: Gateway, action: str) -> None:
    task_id = await gateway.create()
    answer = await gateway.http.post(f"/api/tasks/{task_id}/{action}", headers=FOREIGN)
    assert answer.status_code == 403
    assert (await gateway.store.task(task_id)).task.version == 1


async def test_a_foreign_page_uploads_nothing(storing_gateway: Gateway) -> None:
    request = raw(NAME, USER, FILE)
    headers = {**request["headers"], **FOREIGN}
    assert (await storing_gateway.http.post(UPLOAD, content=request["content"], headers=headers)).status_code == 403
    assert len(await storing_gateway.store.datasets(1)) == 1


async def test_every_file_of_the_page_of_the_api_is_served(gateway: Gateway) -> None:
    names = re.findall(r'"/docs/([^"]+)"', (await gateway.http.get("/docs")).text)
    assert set(names) == {*Asset, "start.js"}
    answers = [await gateway.http.get(f"/docs/{name}") for name in names]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {answer.headers["content-type"].partition(";")[0] for answer in answers} == {"text/css", "text/javascript"}


async def test_other_files_of_the_package_are_not_served(gateway: Gateway) -> None:
    assert (await gateway.http.get("/docs/redoc.standalone.js")).status_code == 422
