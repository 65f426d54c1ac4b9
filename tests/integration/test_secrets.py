"""Passwords and keys are only in their own private files, and the folder of a stack is private.

One `treadle up` is started without a umask, in a folder of an earlier version. It runs a task, loses its servers, and
then everything that it wrote is searched.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import httpx
import psutil
import pytest
import pytest_asyncio

from infra.stack.rabbitmq import rabbitmq_script
from tests.eventually import eventually
from tests.servers import missing

OTLP_HEADER = "otlp-3b7e0a55c1"
KEPT_IN = {
    "database": "postgres/password",
    "object store": "s3/secret-key",
    "broker": "rabbitmq/password",
    "broker's nodes": "rabbitmq/.erlang.cookie",
}
"""The file of each secret in the folder of the stack. The configuration of RabbitMQ repeats its password."""
ROWS = "text,category\n" + "".join(f"question {number} about cards,{'ab'[number % 2]}\n" for number in range(40))
ENDED = {"COMPLETED", "FAILED", "CANCELLED"}
PATHS = ("/readyz", "/api/tasks", "/metrics", "/openapi.json", "/asyncapi.json", "/healthz", "/api/datasets/none/files")
KINDS = ("log", "answers", "spans", "arguments", "environments", "files", "rows")
"""What is searched."""


@dataclass
class Evidence:
    """All that one stack has written and shown, by kind, and the secrets by name."""

    folder: Path
    process: psutil.Process
    secrets: dict[str, bytes] = field(default_factory=dict)
    found: dict[str, list[bytes]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    exposed: list[str] = field(default_factory=list)
    """Paths that the group or all others may use in some way."""

    def add(self, kind: str, *texts: bytes) -> None:
        self.found[kind].extend(texts)

    def look_at_processes(self) -> None:
        for process in self.process.children(recursive=True):
            try:
                self.add("arguments", " ".join(process.cmdline()).encode())
                environment, command = process.environ(), " ".join(process.cmdline())
            except psutil.Error:  # it has ended
                continue
            if "infra.child." in command:
                self.add("environments", str(environment).encode())

    async def ask(self, http: httpx.AsyncClient, method: str, path: str, **body: Any) -> httpx.Response:
        answer = await http.request(method, path, timeout=60, **body)
        self.add("answers", f"{answer.headers} {answer.text}".encode())
        return answer


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes], list[str | None]]]:
    """An OpenTelemetry collector: its address, the bodies and the authorizations that it receives."""
    bodies: list[bytes] = []
    authorizations: list[str | None] = []

    class Collect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            authorizations.append(self.headers["authorization"])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collect) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", bodies, authorizations
        server.shutdown()


@asynccontextmanager
async def up(folder: Path, log: Path, otlp: str) -> AsyncIterator[tuple[psutil.Process, str]]:
    """`treadle up` without a umask; yields its process and the address of its gateway."""
    more = {
        "TREADLE_OTLP_ENDPOINT": otlp,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{OTLP_HEADER}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "TREADLE_LOG_LEVEL": "DEBUG",
        "TREADLE_WARM_CHILDREN": "false",
    }
    command = [sys.executable, "-m", "cli", "up", "--folder", str(folder), "--port", "0", "--broker", "rabbitmq"]
    with log.open("wb") as output:
        start = partial(subprocess.Popen, command, stdout=output, stderr=output, env={**os.environ, **more}, umask=0)
        process = await asyncio.to_thread(start)

    async def address() -> str | None:
        found = re.search(r"gateway +(http://\S+)(?s:.*)Ready\.", await asyncio.to_thread(log.read_text))
        return found[1] if found else None

    try:
        yield psutil.Process(process.pid), await eventually(address, "the gateway", 60)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


async def run_task(evidence: Evidence, http: httpx.AsyncClient) -> str:
    """Run a task whose model does not exist, so that it fails in a program; returns its path."""
    form = {"name": "rows", "datasetType": "training", "userId": "1"}
    dataset = await evidence.ask(http, "POST", "/api/datasets/upload", data=form, files={"file": ("rows.csv", ROWS)})
    names = {"taskName": "t", "modelName": "/no/such/model", "datasetId": dataset.json()["datasetId"], "maxFailures": 0}
    task = await evidence.ask(http, "POST", "/api/tasks/standard", json={**names, "userId": 1, "autoStart": True})
    path = f"/api/tasks/{task.json()['taskId']}"

    async def ended() -> bool:
        evidence.look_at_processes()
        return (await evidence.ask(http, "GET", path)).json()["status"] in ENDED

    await eventually(ended, "the end of the task", 90)
    return path


async def read_routes(evidence: Evidence, http: httpx.AsyncClient, task: str) -> None:
    paths = (*PATHS, task, f"{task}/executions", f"{task}/events")
    await asyncio.gather(*(evidence.ask(http, "GET", path) for path in paths))


async def read_rows(evidence: Evidence) -> None:
    """Every row of every table, as text."""
    port = next(
        connection.laddr.port
        for process in evidence.process.children(recursive=True)
        if process.name() == "postgres"
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    )
    password = evidence.secrets["database"].decode()
    database = await asyncpg.connect(host="127.0.0.1", port=port, user="treadle", password=password, database="treadle")
    for (table,) in await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        for (row,) in await database.fetch(f'SELECT each::text FROM "{table}" each'):
            evidence.add("rows", row.encode())
    await database.close()


def kill_servers(process: psutil.Process) -> None:
    servers = [child for child in process.children() if child.name() in {"postgres", "rclone", "beam.smp"}]
    for server in servers:
        server.kill()
    assert len(servers) == 3, [child.name() for child in process.children()]


def read_files(evidence: Evidence) -> None:
    """Every file but those of the secrets."""
    kept = {*KEPT_IN.values(), "rabbitmq/rabbitmq.conf"}
    for path in evidence.folder.rglob("*"):
        if path.is_file() and path.relative_to(evidence.folder).as_posix() not in kept:
            evidence.add("files", path.read_bytes())


def read_modes(evidence: Evidence) -> None:
    for path in (evidence.folder, *evidence.folder.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode & 0o077 and not path.is_symlink():
            evidence.exposed.append(f"{mode:o} {path.relative_to(evidence.folder)}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def evidence() -> AsyncIterator[Evidence]:
    """What a stack wrote while a task failed, and while its servers were away."""
    if rabbitmq_script("rabbitmq-server") is None:
        missing("no RabbitMQ: install rabbitmq-server")
    with TemporaryDirectory(prefix="treadle-test-secrets-") as place, collector() as (otlp, bodies, authorizations):
        folder, log = Path(place) / "stack", Path(place) / "log"
        (folder / "s3" / "data").mkdir(mode=0o755, parents=True)
        fresh = httpx.Limits(max_keepalive_connections=0)  # the gateway closes idle connections
        async with up(folder, log, otlp) as (process, url), httpx.AsyncClient(base_url=url, limits=fresh) as http:
            evidence = Evidence(folder, process, {"collector": OTLP_HEADER.encode()})
            evidence.secrets |= {name: (folder / file).read_bytes() for name, file in KEPT_IN.items()}
            task = await run_task(evidence, http)
            await read_rows(evidence)
            await read_routes(evidence, http, task)
            await asyncio.to_thread(read_modes, evidence)
            await asyncio.to_thread(kill_servers, process)
            await read_routes(evidence, http, task)
            await eventually(lambda: asyncio.to_thread(lambda: b"broker_lost" in log.read_bytes()), "the loss", 20)
            await asyncio.to_thread(read_files, evidence)
            evidence.add("spans", *bodies)
            evidence.add("log", log.read_bytes())
            assert f"Bearer {OTLP_HEADER}" in authorizations
            yield evidence


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.asyncio(loop_scope="module")
async def test_no_secret_is_shown_or_stored(evidence: Evidence, kind: str) -> None:
    found = evidence.found[kind]
    assert found
    assert [name for name, secret in evidence.secrets.items() if any(secret in text for text in found)] == []


@pytest.mark.asyncio(loop_scope="module")
async def test_the_folder_of_a_stack_is_private_but_for_the_passage_of_postgresql(evidence: Evidence) -> None:
    assert evidence.exposed == (["710 .", "710 postgres"] if os.geteuid() == 0 else [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.asyncio(loop_scope="module")
async def test_other_users_read_nothing(evidence: Evidence) -> None:
    def readable(path: Path) -> bool:
        command = ["head", "-c", "1", str(path)]
        return subprocess.run(command, user="nobody", extra_groups=[], capture_output=True).returncode == 0

    files = [path for path in evidence.folder.rglob("*") if path.is_file()]
    by_top: dict[str, Path] = {path.relative_to(evidence.folder).parts[0]: path for path in files}
    assert {"s3", "rabbitmq", "postgres", "work"} <= set(by_top)
    assert [str(path) for path in by_top.values() if readable(path)] == []
