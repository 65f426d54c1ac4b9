"""Clients that stall and inputs without an end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import psutil

from tests.attack.target import Target, require

BOUNDARY = "x"
MEMORY = 100 * 2**20
"""Bytes by which one request may enlarge a control process for good."""
ANSWER = 60.0
"""Seconds within which every request is answered, whatever other clients or parts do."""


async def uploads_that_stall(target: Target) -> int:
    """Sixty-four clients that send half a file; an honest upload beside them is answered at once."""
    writers = [await _stalled_upload(target) for _ in range(64)]
    try:
        async with asyncio.timeout(ANSWER):
            await _upload(target)
    finally:
        for writer in writers:
            writer.close()
    return len(writers)


async def requests_that_send_one_header_a_second(target: Target) -> int:
    """Two hundred connections that never finish their headers."""
    writers = []
    for _ in range(200):
        _, writer = await _connect(target)
        writer.write(b"GET /api/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
        writers.append(writer)
    try:
        async with asyncio.timeout(ANSWER), target.client() as client:
            (await client.get("/api/tasks")).raise_for_status()
    finally:
        for writer in writers:
            writer.close()
    return len(writers)


async def twenty_five_thousand_unknown_form_fields(target: Target) -> int:
    """A form of 225 MB with fields that the upload does not know."""
    before = _memory(target)
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n{"v" * 9000}\r\n'
    reader, writer = await _connect(target)
    with suppress(ConnectionError):
        writer.write(_upload_head(target, 225 * 10**6))
        for number in range(25_000):
            writer.write((part % number).encode())
            await writer.drain()
    with suppress(ConnectionError):
        await asyncio.wait_for(reader.read(65536), ANSWER)
    writer.close()
    grown = _memory(target) - before
    require(grown < MEMORY, f"control grew by {grown / 2**20:.0f} MiB")
    return 25_000


async def an_object_store_that_hangs(target: Target) -> int:
    """The object store answers nothing; every request has an end all the same."""
    target.servers.objects.stall()
    try:
        async with target.client(timeout=ANSWER) as client:
            answers = await asyncio.gather(
                _upload(target, expected=503), client.get("/readyz"), client.get("/api/tasks")
            )
        require(answers[1].status_code == 503, "the gateway is ready without an object store")
    finally:
        target.servers.objects.flow()
    return 3


async def a_database_that_hangs(target: Target) -> int:
    """The database answers nothing; every request has an end all the same, and the cause is named."""
    target.servers.database.stall()
    try:
        async with target.client(timeout=ANSWER) as client:
            listing, ready = await asyncio.gather(client.get("/api/tasks"), client.get("/readyz"))
    finally:
        target.servers.database.flow()
    require(listing.status_code == 503, f"a listing was answered {listing.status_code}")
    require("database" in ready.text, f"the cause is not named: {ready.text[:200]}")
    return 2


async def _upload(target: Target, expected: int = 201) -> None:
    file = {"file": ("rows.csv", b"text,category\na,b\n" * 20, "text/csv")}
    async with target.client(timeout=ANSWER) as client:
        for _ in range(10):
            answer = await client.post("/api/datasets/upload", files=file, data={"name": "rows", "userId": "1"})
            if answer.status_code == expected or "retry-after" not in answer.headers:
                break
            await asyncio.sleep(min(5.0, float(answer.headers["retry-after"])))
    require(answer.status_code == expected, f"an upload was answered {answer.status_code}: {answer.text[:200]}")


async def _stalled_upload(target: Target) -> asyncio.StreamWriter:
    _, writer = await _connect(target)
    writer.write(_upload_head(target, 10**6))
    writer.write(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="userId"\r\n\r\n1\r\n'.encode())
    name = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="name"\r\n\r\nrows\r\n'
    file = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="rows.csv"\r\n\r\n'
    writer.write((name + file + "text,category\n").encode() + b"a,b\n" * 20_000)
    await writer.drain()
    return writer


def _upload_head(target: Target, length: int) -> bytes:
    return (
        f"POST /api/datasets/upload HTTP/1.1\r\nHost: {urlsplit(target.url).netloc}\r\nContent-Length: {length}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    ).encode()


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(target.url)
    return await asyncio.open_connection(address.hostname, address.port)


def _memory(target: Target) -> int:
    """Resident bytes of the control process behind the gateway that is attacked."""
    port = urlsplit(target.url).port
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return int(psutil.Process(connection.pid).memory_info().rss)
    raise AssertionError(f"no process listens on {port}")
