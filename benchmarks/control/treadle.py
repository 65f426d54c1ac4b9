"""Treadle as a contestant: one control process and one worker process per phase; tasks are submitted to the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self
from uuid import UUID

import aio_pika
import asyncpg
import httpx
from aio_pika.exceptions import ChannelNotFoundEntity

from benchmarks.control.contestant import PHASES, WARM_UP, Contestant, Promises
from benchmarks.control.processes import Processes, environment
from benchmarks.control.servers import Servers
from benchmarks.control.waiting import until
from contracts.http import StandardTaskRequest
from contracts.message import Message
from contracts.submissions import CancelTask, CreateTask, SubmissionAccepted
from contracts.topology import QUEUES, TASKS
from contracts.wire import decode, encode
from infra.bus.port import OutgoingMessage
from infra.bus.rabbitmq import RabbitMQBus
from infra.settings import Settings
from infra.stack.ports import free_port

SLOTS = 1024
BATCH_SIZE = 256
"""Submissions in a batch, which are published before their confirms are awaited."""
ANSWER_TIMEOUT = 30.0


class Treadle(Contestant):
    """Treadle with a real control and real workers, whose programs do nothing."""

    name = "treadle"
    module = "benchmarks.control.noop"
    promises = Promises(
        outbox="yes", inbox="yes", fence="yes", history="every event", redelivery="when the lease ends, 15 to 45 s"
    )
    ended_sql = "SELECT count(*) FROM tasks WHERE final_status = 'COMPLETED' /* bench */"
    ended_one_sql = "SELECT count(*) FROM tasks WHERE task_id = $1::text::uuid AND status = 'COMPLETED' /* bench */"

    settings: Settings
    bus: RabbitMQBus
    http: httpx.AsyncClient

    @classmethod
    @asynccontextmanager
    async def started(cls, servers: Servers, folder: Path, workers: Sequence[str] = PHASES) -> AsyncIterator[Self]:
        """Treadle on an empty database with one dataset; warmed up if `workers` has all three phases."""
        dsn = await servers.fresh_database("bench_treadle")
        await _purge(servers.broker)
        database = await asyncpg.connect(dsn)
        with Processes(folder / cls.name) as running:
            self = cls(servers.broker, dsn, database, running)
            self.settings = servers.settings(
                "bench_treadle", http_port=free_port(), log_level="WARNING", work_dir=folder / "work"
            )
            try:
                await self.open()
                for phase in workers:
                    self.start_worker(phase)
                await self._register_dataset()
                if set(workers) == set(PHASES):
                    await self.submit_all(WARM_UP)
                    await self.until_ended(WARM_UP)
                yield self
            finally:
                await self.close()
                await database.close()

    async def open(self) -> None:
        """Start control and connect to it and to the broker."""
        self.bus = RabbitMQBus(self.broker)
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.settings.http_port}", timeout=30)
        self.start_control()
        await self.until_ready()
        await self.bus.start()

    async def close(self) -> None:
        """Close the connections to control and to the broker."""
        await self.http.aclose()
        await self.bus.close()

    def start_control(self) -> None:
        """Start one control process with its gateway."""
        self.running.python("control", ["-m", "cli", "control"], environment(self.settings))

    def start_worker(self, phase: str, name: str | None = None, **more: object) -> None:
        """Start one worker process with `more` in its environment; `name` is needed for a second one of a phase."""
        environ = environment(self.settings, worker_slots=SLOTS, worker_id=name or phase)
        self.running.python(
            name or phase, ["-m", self.module, phase], environ | {key: str(value) for key, value in more.items()}
        )

    async def until_ready(self) -> None:
        """Wait until the readiness probe of control succeeds."""

        async def ready() -> bool:
            self.running.check()
            try:
                return (await self.http.get("/readyz")).is_success
            except httpx.TransportError:
                return False

        await until(ready, "control to be ready", interval=0.01)

    async def submit(self) -> str:
        """Publish one task and await the broker's confirm."""
        request = task()
        await self.publish(request)
        return str(request.task_id)

    async def submit_all(self, count: int) -> None:
        """Publish tasks in batches and await the confirms of each batch together."""
        for begin in range(0, count, BATCH_SIZE):
            batch = [_outgoing(task()) for _ in range(min(BATCH_SIZE, count - begin))]
            for error in await self.bus.publish_all(batch):
                if error is not None:
                    raise error

    async def submit_answered(self) -> None:
        """Publish one task and await the answer of control, which means that the task is created and started."""
        decode(await self.bus.request(_outgoing(task()), timeout=ANSWER_TIMEOUT), SubmissionAccepted)

    async def cancel(self, task_id: str) -> None:
        """Publish the request to cancel a task."""
        await self.publish(CancelTask(task_id=UUID(task_id)))

    async def publish(self, message: Message) -> None:
        """Publish a submission and await the confirm."""
        await self.bus.publish(_outgoing(message))

    async def until_started(self, count: int) -> None:
        """Wait until `count` tasks are started: their first command is in the outbox."""

        async def all_started() -> bool:
            self.running.check()
            started: int = await self.database.fetchval(
                "SELECT count(*) FROM tasks WHERE status <> 'PENDING' /* bench */"
            )
            return started >= count

        await until(all_started, f"{count} tasks to be started")

    async def _register_dataset(self) -> None:
        await self.database.execute(
            """INSERT INTO datasets (dataset_id, name, storage_path, file_size, dataset_type, user_id, is_optimized)
            VALUES ('raw', 'rows', 'datasets/1/raw', 10, 'training', 1, false)"""
        )


def task() -> CreateTask:
    """A submission of a STANDARD task that starts at once."""
    body = StandardTaskRequest(task_name="bench", user_id=1, model_name="/models/base", dataset_id="raw")
    return CreateTask(task=body.model_copy(update={"auto_start": True}), actor="bench")


async def _purge(broker: str) -> None:
    """Purge the queues of an earlier measurement, whose database does not exist any more."""
    async with await aio_pika.connect(broker) as connection:
        for queue in QUEUES:
            channel = await connection.channel()
            with suppress(ChannelNotFoundEntity):
                await (await channel.declare_queue(queue.name, passive=True)).purge()


def _outgoing(submission: Message) -> OutgoingMessage:
    assert isinstance(submission, CreateTask | CancelTask)
    return OutgoingMessage(TASKS.name, submission.kind, encode(submission), str(submission.message_id))
