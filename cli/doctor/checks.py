"""The checks of `treadle doctor`. Each check returns a result; none raises."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

import httpx
from pydantic import TypeAdapter

from cli.client import RequestRefused, checked_url, problem_of
from contracts.errors import InvalidInput, TreadleError
from contracts.topology import DEAD_QUEUE
from contracts.workers import WorkerView
from infra.bus.connect import connect
from infra.database import Database
from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings
from infra.stack.rabbitmq import rabbitmq_script

TRAIN_EXTRA = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "httpx2",
    "huggingface-hub",
    "jinja2",
    "numpy",
    "rapidfuzz",
    "rouge-score",
    "safetensors",
    "scikit-learn",
    "scipy",
    "threadpoolctl",
    "tokenizers",
)
"""Packages that the programs of the workers import: the extra `train` of pyproject.toml."""
POSTGRES_PORT = 5432
CHECK_TIMEOUT = 5.0
"""Seconds for one check."""
WORKERS = TypeAdapter(list[WorkerView])


class CheckState(StrEnum):
    """The result of a check."""

    FINE = "fine"
    OPTIONAL = "optional"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of checking one component, and how to fix it."""

    name: str
    state: CheckState
    detail: str
    fix: str = ""


def machine_checks() -> list[Check]:
    """Check this machine: Python, the packages of the programs, and a RabbitMQ server that can be started."""
    return [_python(), _train_extra(), _rabbitmq_server()]


async def component_checks(settings: Settings, url: str, only: Collection[str] = ()) -> list[Check]:
    """Check the configured broker, database, object store and gateway; or those of them in `only`."""
    probes: dict[str, Callable[[], Awaitable[Check]]] = {
        "broker": lambda: _broker(settings),
        "database": lambda: _database(settings),
        "object-store": lambda: _objects(settings),
        "gateway": lambda: _gateway(url),
    }
    return list(await asyncio.gather(*(probe() for name, probe in probes.items() if not only or name in only)))


def _python() -> Check:
    number = ".".join(str(part) for part in sys.version_info[:3])
    state = CheckState.FINE if sys.version_info >= (3, 11) else CheckState.BROKEN
    return Check("Python", state, number, "install Python 3.11 or newer")


def _train_extra() -> Check:
    """Look up the versions of the packages without importing them."""
    versions = {name: _version(name) for name in TRAIN_EXTRA}
    missing = [name for name, number in versions.items() if number is None]
    if missing:
        fix = 'pip install -c constraints.txt "treadle[train]" (or: make setup)'
        return Check("train extra", CheckState.BROKEN, f"missing: {', '.join(missing)}", fix)
    return Check("train extra", CheckState.FINE, ", ".join(f"{name} {versions[name]}" for name in TRAIN_EXTRA[:3]))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _rabbitmq_server() -> Check:
    """Optional: only `treadle up` and `treadle demo` start a server, and they can use the in-process bus instead."""
    if rabbitmq_script("rabbitmq-server"):
        return Check("RabbitMQ", CheckState.FINE, "installed; `treadle up` starts a private node")
    fix = "apt-get install rabbitmq-server"
    return Check("RabbitMQ", CheckState.OPTIONAL, "not installed; `treadle up` uses the in-process bus", fix)


async def _broker(settings: Settings) -> Check:
    url = settings.bus_url.get_secret_value()
    if url == IN_PROCESS:
        return Check("broker", CheckState.FINE, "in-process: each `treadle up` has its own bus")
    fix = "set TREADLE_BUS_URL to a running RabbitMQ, or start a private one with `treadle up`"
    letters = 0

    async def count() -> None:
        nonlocal letters
        letters = await _dead_letters(settings)

    check = await _check("broker", _address(url), count(), fix)
    if not DEAD_QUEUE.nearly_full(letters):
        return check
    detail = f"{letters:,} dead letters; above {DEAD_QUEUE.max_length:,} the broker deletes the oldest"
    fix = "read them with `treadle dlq list`, then replay or purge them"
    return Check("broker", CheckState.OPTIONAL, f"{check.detail}: {detail}", fix)


async def _dead_letters(settings: Settings) -> int:
    """Log in and declare the topology, as every service does at its start; return the number of dead letters."""
    bus = connect(settings)
    try:
        await bus.start()
        return await bus.depth(DEAD_QUEUE.name)
    finally:
        await bus.close()


async def _database(settings: Settings) -> Check:
    url = settings.database_url.get_secret_value()
    fix = "set TREADLE_DATABASE_URL to a running PostgreSQL, or start one with `treadle up`"
    return await _check("database", _address(url), _log_in(url), fix)


async def _log_in(url: str) -> None:
    """Open a plain connection first, which fails at once; the pool retries while the database is not reachable."""
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port or POSTGRES_PORT)
    writer.close()
    await writer.wait_closed()
    database = await Database.open(url)
    await database.close()


async def _objects(settings: Settings) -> Check:
    objects = ObjectStore(settings)
    fix = "set TREADLE_S3_ENDPOINT, _ACCESS_KEY, _SECRET_KEY and _BUCKET, or start a store with `treadle up`"
    try:
        return await _check("object-store", settings.s3_endpoint, objects.ping(), fix)
    finally:
        await objects.close()


async def _gateway(url: str) -> Check:
    fix = "start one with `treadle up` or `treadle control`, or give another address with --url"
    return await _check("gateway", url, _require_ready(url), fix)


async def unfit_worker_checks(url: str) -> list[Check]:
    """A broken check for each worker that tells control why it takes no commands; none if the gateway is away."""
    try:
        async with httpx.AsyncClient(base_url=checked_url(url), timeout=CHECK_TIMEOUT) as http:
            answer = await http.get("/api/workers")
        workers = WORKERS.validate_json(answer.content) if answer.is_success else []
    except (httpx.HTTPError, InvalidInput, ValueError):  # the check of the gateway reports it
        return []
    return [_unfit(worker) for worker in workers if worker.unfit is not None]


def _unfit(worker: WorkerView) -> Check:
    detail = f"{worker.worker_id} on {worker.host} takes no commands: it {worker.unfit}"
    return Check("worker", CheckState.BROKEN, detail, "it takes commands again by itself once the cause is gone")


async def _check(name: str, address: str, probe: Awaitable[object], fix: str) -> Check:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await probe
    except TimeoutError:
        return Check(name, CheckState.BROKEN, f"{address}: no answer within {CHECK_TIMEOUT:g} seconds", fix)
    except (ConnectionRefusedError, httpx.ConnectError):
        return Check(name, CheckState.BROKEN, f"{address}: no server listens at this address", fix)
    except (TreadleError, OSError, httpx.HTTPError) as error:
        reason = str(error) or type(error).__name__
        return Check(name, CheckState.BROKEN, reason if address in reason else f"{address}: {reason}", fix)
    return Check(name, CheckState.FINE, address)


async def _require_ready(url: str) -> None:
    """Raise RequestRefused with the gateway's problem if the gateway is not ready."""
    async with httpx.AsyncClient(base_url=checked_url(url)) as http:
        answer = await http.get("/readyz")
    if answer.is_error:
        raise RequestRefused(problem_of(answer))


def _address(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}" if parts.port else f"{parts.scheme}://{parts.hostname}"
