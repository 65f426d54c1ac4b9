"""The stack under attack, and what an outsider can do with it: raw messages, raw HTTP, and looking."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import httpx
from aio_pika.abc import AbstractChannel

from contracts.http import StandardTaskRequest
from contracts.leases import LeaseRequest
from contracts.submissions import CreateTask, SubmissionAccepted, SubmissionRefused
from contracts.topology import CLAIMS, TASKS
from contracts.wire import decode, encode
from infra.bus.port import OutgoingMessage
from infra.bus.rabbitmq import RabbitMQBus
from infra.database import Database
from tests.acceptance.processes import environment
from tests.attack.fuzz import Prepared
from tests.chaos.load import USER
from tests.chaos.parts import Servers
from tests.chaos.processes import Services
from tests.chaos.script import Script
from tests.eventually import eventually

RECOVERY = 30.0
"""Seconds within which the stack must work again after an abuse."""
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}


class PromiseBroken(AssertionError):
    """The stack did what `docs/security.md` excludes."""


def require(condition: object, text: str) -> None:
    """Raise PromiseBroken with `text` unless the condition holds."""
    if not condition:
        raise PromiseBroken(text)


@dataclass
class Target:
    """A running stack, with connections to it; `size` is the number of inputs of the abuses that take a number."""

    servers: Servers
    services: Services
    bus: RabbitMQBus
    database: Database
    dataset: str
    seed: int
    size: int
    folder: Path
    hostile: Prepared
    """Messages for every exchange, drawn before the run."""
    tasks: list[UUID] = field(default_factory=list)
    """Tasks that an abuse has created, which the honest users do not know."""

    @property
    def url(self) -> str:
        """The address of one gateway."""
        return self.services.urls[0]

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel with the rights of the stack's own account, as someone who knows its password has."""
        async with await aio_pika.connect(self.servers.rabbitmq.url) as connection:
            yield await connection.channel()

    async def publish(self, exchange: str, key: str, bodies: Iterable[bytes], **properties: Any) -> int:
        """Publish raw bodies to an exchange, and return their number."""
        sent = 0
        async with self.channel() as channel:
            to = await channel.get_exchange(exchange, ensure=False)
            for body in bodies:
                await to.publish(aio_pika.Message(body, **properties), key, mandatory=False)
                sent += 1
        return sent

    async def claims(self) -> asyncio.Queue[LeaseRequest]:
        """Every lease request from now on, read from a private queue that is bound to the claims."""
        seen: asyncio.Queue[LeaseRequest] = asyncio.Queue()

        async def read(message: Any) -> None:
            seen.put_nowait(decode(message.body, LeaseRequest))

        await self.bus.listen(CLAIMS.name, "claim", read)
        return seen

    async def submit(self, *, seconds: float = 0.0, name: str = "honest", **more: Any) -> UUID:
        """Submit a task whose training takes at least `seconds`; return its id once it is acknowledged."""
        fixed = {"model_name": "/models/none", "dataset_id": self.dataset, "user_id": USER, "auto_start": True}
        options = {"seed": _seed(seconds), "max_failures": 100, **more}
        body = StandardTaskRequest(task_name=name, **fixed, **options)
        request = CreateTask(task=body)
        message = OutgoingMessage(TASKS.name, request.kind, encode(request), str(request.message_id))
        reply = decode(await self.bus.request(message, timeout=RECOVERY), SubmissionAccepted, SubmissionRefused)
        require(isinstance(reply, SubmissionAccepted), f"a good submission was refused: {reply}")
        self.tasks.append(request.task_id)
        return request.task_id

    async def state(self, task: UUID) -> dict[str, Any]:
        """The state of a task in the database."""
        (row,) = await self.database.fetch("SELECT state FROM tasks WHERE task_id = $1", task)
        state: dict[str, Any] = json.loads(row["state"]) if isinstance(row["state"], str) else row["state"]
        return state

    async def attempts(self, task: UUID) -> list[dict[str, Any]]:
        """The attempts of a task, oldest first."""
        rows = await self.database.fetch("SELECT * FROM attempts WHERE task_id = $1 ORDER BY created_at", task)
        return [dict(row) for row in rows]

    async def ended(self, task: UUID, within: float = RECOVERY) -> dict[str, Any]:
        """The state of a task at its end."""

        async def state_at_end() -> dict[str, Any] | None:
            state = await self.state(task)
            return state if state["status"] in TERMINAL else None

        found: dict[str, Any] = await eventually(state_at_end, f"task {task} to end", within)
        return found

    async def treadle(self, *arguments: str, url: bool = True) -> subprocess.CompletedProcess[bytes]:
        """The result of a `treadle` command that uses this stack."""
        command = [sys.executable, "-m", "cli", *arguments, *(("--url", self.url) if url else ())]
        environ = environment(self.servers.settings())
        return await asyncio.to_thread(
            subprocess.run, command, env=environ, capture_output=True, timeout=60, check=False
        )

    def client(self, timeout: float = 60.0, **more: Any) -> httpx.AsyncClient:
        """An HTTP client of one gateway."""
        return httpx.AsyncClient(base_url=self.url, timeout=timeout, **more)


def _seed(seconds: float) -> int:
    """The first seed whose script has no fault and whose training takes at least `seconds`."""
    from contracts.tasks import AttemptKey, Phase

    key = AttemptKey(task_id=UUID(int=0), iteration=1, phase=Phase.TRAIN, attempt=1)
    for seed in range(1_000_000):
        script = Script.of(seed)
        if not (script.bad_input_phase or script.crash_phase or script.child) and script.seconds(key) >= seconds:
            return seed
    raise ValueError(f"no script takes {seconds:g} s")
