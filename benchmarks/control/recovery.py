"""Measures how long Treadle takes to continue after a part was killed, in seconds."""

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

PROGRAM_SECONDS = 600
"""Duration of a program that outlasts the measurement."""
POLL_INTERVAL = 0.005
"""Seconds."""
BACKLOG = 200
"""Tasks that are submitted before control is killed."""
CLAIMED = "SELECT count(*) FROM attempts WHERE state = 'running' AND worker_id = $1 /* bench */"
SERVED = [queue.name for queue in (*PHASE_QUEUES.values(), CONTROL_QUEUE, SUBMISSIONS_QUEUE, CLAIMS_QUEUE)]
"""The queues that control or a worker consumes."""
INTERRUPTED = "SELECT count(*) FROM attempts WHERE attempt > 1 /* bench */"

Recovery = Callable[[Servers, Path], Awaitable[float]]


async def worker_killed(servers: Servers, folder: Path, phase: Phase) -> float:
    """From the SIGKILL of a worker during an attempt to the claim of the next attempt by another worker."""
    others = [other for other in PHASES if other != phase.value]
    async with Treadle.started(servers, folder, workers=others) as treadle:
        treadle.start_worker(phase, "first", **_long_program(folder))
        await treadle.submit()
        await _wait_for_claim(treadle, "first")
        treadle.start_worker(phase, "second", **_long_program(folder))
        began = time.monotonic()
        treadle.running.kill("first")
        treadle.running.forget("first")
        await _wait_for_claim(treadle, "second")
        return time.monotonic() - began


async def broker_restarted(servers: Servers, folder: Path) -> float:
    """From the end of the broker's restart until every queue has a consumer; no job may be interrupted."""
    node = servers.stack.rabbitmq
    assert node is not None, "started with RabbitMQ"
    async with Treadle.started(servers, folder, workers=PHASES[1:]) as treadle:
        treadle.start_worker(Phase.OPTIMIZE, "holder", **_long_program(folder))
        await treadle.submit()
        await _wait_for_claim(treadle, "holder")
        await node.stop_app()
        await node.start_app()
        began = time.monotonic()
        await _wait_for_consumers(servers.broker, SERVED)
        seconds = time.monotonic() - began
        await treadle.until_ready()
        interrupted = await treadle.database.fetchval(INTERRUPTED)
        assert interrupted == 0, f"{interrupted} jobs were interrupted"
        return seconds


async def queue_deleted(servers: Servers, folder: Path) -> float:
    """From the deletion of the queue of submissions, which cancels its consumer, until it has a consumer again."""
    async with Treadle.started(servers, folder):
        async with await aio_pika.connect(servers.broker) as connection:
            await (await connection.channel()).queue_delete(SUBMISSIONS_QUEUE.name)
        began = time.monotonic()
        await _wait_for_consumers(servers.broker, [SUBMISSIONS_QUEUE.name])
        return time.monotonic() - began


async def database_restarted(servers: Servers, folder: Path) -> float:
    """From the end of a restart of PostgreSQL until control answers a submission."""
    async with Treadle.started(servers, folder) as treadle:
        await servers.restart_database_at_once()
        began = time.monotonic()
        await treadle.until_ready()
        await treadle.submit_answered()
        return time.monotonic() - began


async def control_killed(servers: Servers, folder: Path) -> float:
    """From the readiness of a new control process until the tasks that were submitted before the kill have ended."""
    async with Treadle.started(servers, folder) as treadle:
        before = await treadle.ended()
        await treadle.submit_all(BACKLOG)
        treadle.running.kill("control")
        treadle.start_control()
        await treadle.until_ready()
        began = time.monotonic()
        await treadle.until_ended(before + BACKLOG)
        seconds = time.monotonic() - began
        interrupted = await treadle.database.fetchval(INTERRUPTED)
        assert interrupted == 0, f"{interrupted} jobs were interrupted"
        return seconds


async def cancelled(servers: Servers, folder: Path) -> float:
    """From the request to the stop of the running program."""
    stop_file = Path(_long_program(folder)["BENCH_STOP_FILE"])
    async with Treadle.started(servers, folder, workers=PHASES[1:]) as treadle:
        treadle.start_worker(Phase.OPTIMIZE, "holder", **_long_program(folder))
        task = await treadle.submit()
        await _wait_for_claim(treadle, "holder")
        began = time.time()
        await treadle.cancel(task)

        async def stopped() -> bool:
            return await asyncio.to_thread(stop_file.exists)

        await until(stopped, "the program to be stopped", interval=POLL_INTERVAL)
        return float(await asyncio.to_thread(stop_file.read_text)) - began


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


def _long_program(folder: Path) -> dict[str, str]:
    """The environment of a worker whose program outlasts the measurement."""
    return {"BENCH_PROGRAM_SECONDS": str(PROGRAM_SECONDS), "BENCH_STOP_FILE": str(folder / "stopped")}


async def _wait_for_claim(treadle: Treadle, worker: str) -> None:
    async def claimed() -> bool:
        return bool(await treadle.database.fetchval(CLAIMED, worker))

    await until(claimed, f"{worker} to claim an attempt", interval=POLL_INTERVAL)


async def _wait_for_consumers(broker: str, names: Sequence[str]) -> None:
    """Wait until each of these queues exists and has a consumer."""

    async def consumed() -> bool:
        try:
            async with await aio_pika.connect(broker, timeout=5) as connection:
                channel = await connection.channel()
                queues = [await channel.declare_queue(name, passive=True) for name in names]
                return all(queue.declaration_result.consumer_count for queue in queues)
        except (*CONNECTION_EXCEPTIONS, ChannelNotFoundEntity):
            return False

    await until(consumed, "every queue to have a consumer", interval=0.02)
