"""What `treadle doctor` looks at. Every check answers; none raises."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

import httpx

from cli.client import RequestRefused, checked, problem_of
from contracts.errors import TreadleError
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
"""What the programs of the workers import; the same names stand in pyproject.toml."""
POSTGRES_PORT = 5432
PATIENCE = 5.0
"""Seconds that a part may take to answer."""


class State(StrEnum):
    """How a part is."""

    FINE = "fine"
    OPTIONAL = "optional"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One part: what was found, and what to do about it."""

    name: str
    state: State
    found: str
    mend: str = ""


def here() -> list[Check]:
    """What this machine has: Python, the packages of the programs, a broker that can be started."""
    return [_python(), _train_extra(), _rabbitmq_server()]


async def parts(settings: Settings, url: str, only: Collection[str] = ()) -> list[Check]:
    """What the settings name: broker, database, object store, gateway; or those of them in `only`."""
    probes: dict[str, Callable[[], Awaitable[Check]]] = {
        "broker": lambda: _broker(settings),
        "database": lambda: _database(settings),
        "object-store": lambda: _objects(settings),
        "gateway": lambda: _gateway(url),
    }
    return list(await asyncio.gather(*(probe() for name, probe in probes.items() if not only or name in only)))


def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    state = State.FINE if sys.version_info >= (3, 11) else State.BROKEN
    return Check("Python", state, found, "install Python 3.11 or newer")


def _train_extra() -> Check:
    """The packages that the programs of the workers import; nothing is imported to find out."""
    found = {name: _version(name) for name in TRAIN_EXTRA}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        mend = 'pip install -c constraints.txt "treadle[train]" (or: make setup)'
        return Check("train extra", State.BROKEN, f"missing: {', '.join(missing)}", mend)
    return Check("train extra", State.FINE, ", ".join(f"{name} {found[name]}" for name in TRAIN_EXTRA[:3]))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _rabbitmq_server() -> Check:
    """Only the local stack starts one; without it the bus is in process."""
    if rabbitmq_script("rabbitmq-server"):
        return Check("RabbitMQ", State.FINE, "installed; `treadle up` starts a private node")
    mend = "apt-get install rabbitmq-server"
    return Check("RabbitMQ", State.OPTIONAL, "not installed; `treadle up` uses the in-process bus", mend)


async def _broker(settings: Settings) -> Check:
    url = settings.bus_url.get_secret_value()
    if url == IN_PROCESS:
        return Check("broker", State.FINE, "in-process: each `treadle up` has its own")
    mend = "set TREADLE_BUS_URL to a RabbitMQ that is up, or let `treadle up` start a private one"
    return await _answered("broker", _shown(url), _connected(settings), mend)


async def _connected(settings: Settings) -> None:
    """Log in and declare the topology, which is what every service does first."""
    bus = connect(settings)
    try:
        await bus.start()
    finally:
        await bus.close()


async def _database(settings: Settings) -> Check:
    url = settings.database_url.get_secret_value()
    mend = "set TREADLE_DATABASE_URL to a PostgreSQL that is up, or let `treadle up` start one"
    return await _answered("database", _shown(url), _logged_in(url), mend)


async def _logged_in(url: str) -> None:
    """Knock first: the pool itself is patient with a database that is not there yet."""
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port or POSTGRES_PORT)
    writer.close()
    await writer.wait_closed()
    database = await Database.open(url)
    await database.close()


async def _objects(settings: Settings) -> Check:
    objects = ObjectStore(settings)
    mend = "set TREADLE_S3_ENDPOINT, _ACCESS_KEY, _SECRET_KEY, _BUCKET, or let `treadle up` start a store"
    try:
        return await _answered("object-store", settings.s3_endpoint, objects.ping(), mend)
    finally:
        await objects.close()


async def _gateway(url: str) -> Check:
    return await _answered("gateway", url, _ready(url), "treadle up (or: treadle control), or name another with --url")


async def _answered(name: str, where: str, probe: Awaitable[object], mend: str) -> Check:
    try:
        async with asyncio.timeout(PATIENCE):
            await probe
    except TimeoutError:
        return Check(name, State.BROKEN, f"{where}: no answer within {PATIENCE:g} seconds", mend)
    except (ConnectionRefusedError, httpx.ConnectError):
        return Check(name, State.BROKEN, f"{where}: nothing listens there", mend)
    except (TreadleError, OSError, httpx.HTTPError) as error:
        reason = str(error) or type(error).__name__
        return Check(name, State.BROKEN, reason if where in reason else f"{where}: {reason}", mend)
    return Check(name, State.FINE, where)


async def _ready(url: str) -> None:
    """Raise with what the gateway says is missing."""
    async with httpx.AsyncClient(base_url=checked(url)) as http:
        answer = await http.get("/readyz")
    if answer.is_error:
        raise RequestRefused(problem_of(answer))


def _shown(url: str) -> str:
    """An address without its password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}" if parts.port else f"{parts.scheme}://{parts.hostname}"
