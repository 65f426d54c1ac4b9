"""How long Treadle takes to go on when a part of it is killed: seconds, each measured once a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity

from benchmarks.control.contestant import PHASES
from benchmarks.control.servers import Servers
from benchmarks.control.treadle import Treadle
from benchmarks.control.waiting import until
from contracts.tasks import Phase
from contracts.topology import CLAIMS_QUEUE, CONTROL_QUEUE, PHASE_QUEUES, SUBMISSIONS_QUEUE

HOLD = 600
GLANCE = 0.005
BACKLOG = 200
CLAIMED = "SELECT count(*) FROM phase_runs WHERE state = 'running' AND worker_id = $1 /* bench */"
SERVED = [queue.name for queue in (*PHASE_QUEUES.values(), CONTROL_QUEUE, SUBMISSIONS_QUEUE, CLAIMS_QUEUE)]
"""The queues that control or a worker consumes."""
INTERRUPTED = "SELECT count(*) FROM phase_runs WHERE attempt > 1 /* bench */"

Recovery = Callable[[Servers, Path], Awaitable[float]]


async def worker_killed(servers: Servers, folder: Path, phase: Phase) -> float:
    """From the SIGKILL of a worker that holds an attempt to the claim of the next, by another worker."""
    others = [other for other in PHASES if other != phase.value]
    async with Treadle.started(servers, folder, workers=others) as treadle:
        treadle.start_worker(phase, "first", **_held(folder))
        await treadle.submit()
        await _claimed(treadle, "first")
        treadle.start_worker(phase, "second", **_held(folder))
        began = time.monotonic()
        treadle.running.kill("first")
        treadle.running.forget("first")
        await _claimed(treadle, "second")
        return time.monotonic() - began


async def broker_restarted(servers: Servers, folder: Path) -> float:
    """From the moment at which the broker accepts again until every queue has its consumer. No job is interrupted."""
    node = servers.stack.rabbitmq
    assert node is not None, "started with RabbitMQ"
    async with Treadle.started(servers, folder, workers=PHASES[1:]) as treadle:
        treadle.start_worker(Phase.OPTIMIZE, "holder", **_held(folder))
        await treadle.submit()
        await _claimed(treadle, "holder")
        await node.stop_app()
        await node.start_app()
        began = time.monotonic()
        await _consumed(servers.broker, SERVED)
        took = time.monotonic() - began
        await treadle.until_ready()
        interrupted = await treadle.database.fetchval(INTERRUPTED)
        assert interrupted == 0, f"{interrupted} jobs were interrupted"
        return took


async def queue_deleted(servers: Servers, folder: Path) -> float:
    """From the deletion of the submissions' queue, which cancels its consumer, until it has a consumer again."""
    async with Treadle.started(servers, folder):
        async with await aio_pika.connect(servers.broker) as connection:
            await (await connection.channel()).queue_delete(SUBMISSIONS_QUEUE.name)
        began = time.monotonic()
        await _consumed(servers.broker, [SUBMISSIONS_QUEUE.name])
        return time.monotonic() - began


async def database_restarted(servers: Servers, folder: Path) -> float:
    """From the moment at which PostgreSQL, killed at once, answers again until control serves."""
    async with Treadle.started(servers, folder) as treadle:
        await servers.restart_database_at_once()
        began = time.monotonic()
        await treadle.until_ready()
        await treadle.submit_answered()
        return time.monotonic() - began


async def control_killed(servers: Servers, folder: Path) -> float:
    """From the moment at which a new control process is ready until it has caught up with what piled up meanwhile."""
    async with Treadle.started(servers, folder) as treadle:
        before = await treadle.ended()
        await treadle.submit_all(BACKLOG)
        treadle.running.kill("control")
        treadle.start_control()
        await treadle.until_ready()
        began = time.monotonic()
        await treadle.until_ended(before + BACKLOG)
        took = time.monotonic() - began
        interrupted = await treadle.database.fetchval(INTERRUPTED)
        assert interrupted == 0, f"{interrupted} jobs were interrupted"
        return took


async def cancelled(servers: Servers, folder: Path) -> float:
    """From the request until the running program is told."""
    told = _held(folder)["BENCH_TOLD"]
    async with Treadle.started(servers, folder, workers=PHASES[1:]) as treadle:
        treadle.start_worker(Phase.OPTIMIZE, "holder", **_held(folder))
        task = await treadle.submit()
        await _claimed(treadle, "holder")
        began = time.time()
        await treadle.cancel(task)

        async def heard() -> bool:
            return await asyncio.to_thread(Path(told).exists)

        await until(heard, "the program to be told", pace=GLANCE)
        return float(await asyncio.to_thread(Path(told).read_text)) - began


async def _optimizer_killed(servers: Servers, folder: Path) -> float:
    return await worker_killed(servers, folder, Phase.OPTIMIZE)


async def _trainer_killed(servers: Servers, folder: Path) -> float:
    return await worker_killed(servers, folder, Phase.TRAIN)


RECOVERIES: dict[str, Recovery] = {
    "cancel_s": cancelled,
    "control_killed_s": control_killed,
    "broker_restarted_s": broker_restarted,
    "queue_deleted_s": queue_deleted,
    "database_restarted_s": database_restarted,
    "short_worker_killed_s": _optimizer_killed,
    "train_worker_killed_s": _trainer_killed,
}


def _held(folder: Path) -> dict[str, str]:
    """The environment of a worker whose program goes on for longer than anybody waits."""
    return {"BENCH_HOLD": str(HOLD), "BENCH_TOLD": str(folder / "told")}


async def _claimed(treadle: Treadle, worker: str) -> None:
    async def there() -> bool:
        return bool(await treadle.database.fetchval(CLAIMED, worker))

    await until(there, f"{worker} to claim", pace=GLANCE)


async def _consumed(broker: str, names: Sequence[str]) -> None:
    """Wait until each of these queues is there and has a consumer."""

    async def there() -> bool:
        try:
            async with await aio_pika.connect(broker, timeout=5) as connection:
                channel = await connection.channel()
                found = [await channel.declare_queue(name, passive=True) for name in names]
                return all(queue.declaration_result.consumer_count for queue in found)
        except (*CONNECTION_EXCEPTIONS, ChannelNotFoundEntity):
            return False

    await until(there, "the consumers to be back", pace=0.02)
