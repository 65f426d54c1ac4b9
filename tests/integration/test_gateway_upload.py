from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from contracts.artifacts import Manifest
from infra.objects import ObjectStore
from tests.gateway import UPLOAD_LIMIT, Gateway, fields
from tests.object_store import s3_settings

__all__ = ["s3_settings"]

ROWS = b'{"text": "one"}\n{"text": "two"}\n'
FORM = {"name": "my rows", "datasetType": "training", "domain": "bank", "userId": "1"}
BOUNDARY = "edge"
MIB = 2**20


async def upload(gateway: Gateway, **more: Any) -> httpx.Response:
    given = {"data": FORM, "files": {"file": ("rows.jsonl", ROWS, "application/jsonl")}, **more}
    return await gateway.http.post("/api/datasets/upload", **given)


def raw(*parts: tuple[str, bytes], end: bytes = b"--edge--\r\n") -> dict[str, Any]:
    """A request with the parts in this order, each given by its Content-Disposition parameters and its content."""
    head = "--edge\r\nContent-Disposition: form-data; {}\r\n\r\n"
    body = b"".join(head.format(parameters).encode() + content + b"\r\n" for parameters, content in parts)
    return {"content": body + end, "headers": {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}}


FILE = ('name="file"; filename="rows.jsonl"', ROWS)
NAME, USER = ('name="name"', b"my rows"), ('name="userId"', b"1")


async def post(gateway: Gateway, **request: Any) -> httpx.Response:
    return await gateway.http.post("/api/datasets/upload", **request)


async def test_an_upload_is_a_dataset_with_its_manifest(storing_gateway: Gateway, objects: ObjectStore) -> None:
    answer = await upload(storing_gateway)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    expected = {"name": "my rows", "fileSize": len(ROWS), "sampleCount": None, "userId": 1, "isOptimized": False}
    assert body.items() >= expected.items()
    manifest = Manifest.model_validate_json(await objects.get(f"{body['storagePath']}/_MANIFEST.json"))
    assert manifest.files[0].sha256 == hashlib.sha256(ROWS).hexdigest()
    assert await objects.get(f"{body['storagePath']}/rows.jsonl") == ROWS


async def test_an_uploaded_dataset_is_found_by_id_and_by_user(storing_gateway: Gateway) -> None:
    body = (await upload(storing_gateway)).json()
    assert (await storing_gateway.http.get(f"/api/datasets/{body['datasetId']}")).json() == body
    assert body in (await storing_gateway.http.get("/api/datasets/user/1")).json()


@pytest.mark.parametrize("order", [(NAME, USER, FILE), (FILE, NAME, USER), (USER, FILE, NAME)])
async def test_fields_come_before_or_after_the_file(
    storing_gateway: Gateway, objects: ObjectStore, order: tuple[tuple[str, bytes], ...]
) -> None:
    body = (await post(storing_gateway, **raw(*order))).json()
    assert await objects.get(f"{body['storagePath']}/rows.jsonl") == ROWS


@pytest.mark.parametrize("user", ["1.0", "1_000", "+1", "%201", "%D9%A1"])
async def test_a_user_in_a_path_is_digits_only(gateway: Gateway, user: str) -> None:
    answer = await gateway.http.get(f"/api/datasets/user/{user}")
    assert (answer.status_code, fields(answer)) == (422, ["userId"])


async def test_snake_case_fields_are_accepted(storing_gateway: Gateway) -> None:
    answer = await upload(storing_gateway, data={"name": "rows", "user_id": "1", "dataset_type": "dev"})
    assert answer.json()["datasetType"] == "dev"


async def test_a_file_name_cannot_leave_its_dataset(storing_gateway: Gateway, objects: ObjectStore) -> None:
    answer = await upload(storing_gateway, files={"file": ("../../_MANIFEST.json", ROWS)})
    prefix = answer.json()["storagePath"]
    assert await objects.names(f"{prefix}/") == [f"{prefix}/MANIFEST.json", f"{prefix}/_MANIFEST.json"]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("filename*=UTF-8''my%20r%6Fws.jsonl", "my-rows.jsonl"),
        ("filename*=utf-8'en'rows%20%E2%82%AC.jsonl", "rows.jsonl"),
        ("filename*=ISO-8859-1''r%E9sum.jsonl", "r-sum.jsonl"),
        ("filename*=\"UTF-8''rows.jsonl\"", "rows.jsonl"),
        ("filename*=rows.jsonl", "rows.jsonl"),
        ("filename=\"\"; filename*=UTF-8''rows.jsonl", "rows.jsonl"),
        ("filename=\"plain.jsonl\"; filename*=UTF-8''other.jsonl", "plain.jsonl"),
        ("filename*=UTF-8''other.jsonl; filename=plain.jsonl", "plain.jsonl"),
        ('filename="a%22b.jsonl"', "a-b.jsonl"),
        ('filename="100%.jsonl"', "100.jsonl"),
        ("filename*=UTF-8''..%2F..%2F_MANIFEST.json", "MANIFEST.json"),
    ],
)
async def test_a_file_name_is_taken_in_every_form_that_clients_send(
    storing_gateway: Gateway, objects: ObjectStore, parameters: str, name: str
) -> None:
    answer = await post(storing_gateway, **raw(NAME, USER, (f'name="file"; {parameters}', ROWS)))
    assert answer.status_code == 201, answer.text
    assert await objects.get(f"{answer.json()['storagePath']}/{name}") == ROWS


async def test_an_extended_file_name_is_used_if_the_plain_one_is_not_utf_8(
    storing_gateway: Gateway, objects: ObjectStore
) -> None:
    request = raw(NAME, USER, ('name="file"; filename="r@.jsonl"; filename*=UTF-8\'\'rows.jsonl', ROWS))
    answer = await post(storing_gateway, **{**request, "content": request["content"].replace(b"@", b"\xe9")})
    assert await objects.get(f"{answer.json()['storagePath']}/rows.jsonl") == ROWS


@pytest.mark.parametrize(
    ("request_", "status", "field"),
    [
        (raw(NAME, USER), 422, "file"),
        (raw(NAME, USER, ('name="file"; filename="rows.jsonl"', b"")), 422, "file"),
        (raw(NAME, USER, ('name="file"', ROWS)), 422, "file"),
        (raw(NAME, USER, ('name="file"; filename="rows.parquet"', ROWS)), 415, "file"),
        (raw(NAME, USER, FILE, FILE), 422, "file"),
        (raw(NAME, NAME, USER, FILE), 422, "name"),
        (raw(USER, FILE), 422, "name"),
        (raw(NAME, FILE), 422, "userId"),
        (raw(NAME, ('name="userId"', b"me"), FILE), 422, "userId"),
        (raw(NAME, ('name="userId"', b"1_000"), FILE), 422, "userId"),
        (raw(NAME, ('name="userId"', b"1.0"), FILE), 422, "userId"),
        (raw(NAME, ('name="userId"', b" 1"), FILE), 422, "userId"),
        (raw(NAME, USER, ('name="colour"', b"red"), FILE), 422, "colour"),
        (raw(('name="name"', b"\xff"), USER, FILE), 422, "name"),
        (raw(('name="name"', b"x" * 20_000), USER, FILE), 413, "name"),
        (raw(NAME, USER, FILE, end=b""), 422, "body"),
        (raw(NAME, USER, ("", b"x"), FILE), 422, "body"),
        ({**raw(NAME, USER, FILE), "content": b"no multipart at all"}, 422, "body"),
        ({"content": ROWS, "headers": {"content-type": "multipart/form-data"}}, 422, "Content-Type"),
        ({"content": ROWS, "headers": {"content-type": "application/json"}}, 415, "Content-Type"),
        ({"content": ROWS}, 415, "Content-Type"),
    ],
)
async def test_a_wrong_upload_is_refused_by_field(
    storing_gateway: Gateway, request_: dict[str, Any], status: int, field: str
) -> None:
    answer = await post(storing_gateway, **request_)
    assert (answer.status_code, fields(answer)) == (status, [field])


async def test_a_file_with_the_content_type_of_an_image_is_refused(storing_gateway: Gateway) -> None:
    answer = await upload(storing_gateway, files={"file": ("rows.json", ROWS, "image/png")})
    assert (answer.status_code, fields(answer)) == (415, ["file"])


async def test_a_refused_upload_registers_nothing(storing_gateway: Gateway) -> None:
    await post(storing_gateway, **raw(NAME, USER, FILE, end=b""))
    datasets = (await storing_gateway.http.get("/api/datasets/user/1")).json()
    assert [dataset["datasetId"] for dataset in datasets] == ["rows"]


async def test_an_object_store_that_is_away_is_503(gateway: Gateway) -> None:
    answer = await upload(gateway)
    assert (answer.status_code, fields(answer)) == (503, ["object_store"])


async def body_of(size: int) -> AsyncIterator[bytes]:
    head = 'Content-Disposition: form-data; name="{}"{}\r\n\r\n'
    for name, value in (("name", b"big"), ("userId", b"1")):
        yield b"--edge\r\n" + head.format(name, "").encode() + value + b"\r\n"
    yield b"--edge\r\n" + head.format("file", '; filename="big.csv"').encode()
    for _ in range(size // MIB):
        yield bytes(MIB)
    yield b"\r\n--edge--\r\n"


def stream_of(size: int) -> dict[str, Any]:
    return {"content": body_of(size), "headers": {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}}


async def peak_of_an_upload(gateway: Gateway, size: int) -> int:
    """The peak of the bytes that Python has allocated; unlike the resident size, it excludes earlier tests."""
    tracemalloc.start()
    try:
        answer = await post(gateway, **stream_of(size))
        assert answer.json()["fileSize"] == size
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_an_upload_takes_constant_memory(storing_gateway: Gateway) -> None:
    small = await peak_of_an_upload(storing_gateway, 36 * MIB)
    large = await peak_of_an_upload(storing_gateway, 72 * MIB)
    assert large < small + 4 * MIB


async def test_a_file_beyond_the_limit_is_413(storing_gateway: Gateway) -> None:
    answer = await post(storing_gateway, **stream_of(UPLOAD_LIMIT + MIB))
    assert (answer.status_code, fields(answer)) == (413, ["file"])
