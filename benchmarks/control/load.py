"""The measurements that all contestants have in common."""

from __future__ import annotations

import asyncio
import time

from benchmarks.control.contestant import Contestant

POLL_INTERVAL = 0.0005
"""Seconds between two queries for the end of a task."""
UNPOLLED_SHARE = 0.6
"""The share of the shortest latency so far in which no query is made, because the task cannot have ended."""
PAUSE = 0.01
"""Seconds between two tasks that are timed one by one."""


async def throughput(contestant: Contestant, count: int) -> float:
    """Tasks per second, from the first submission until all have ended in the database."""
    before = await contestant.ended()
    began = time.perf_counter()
    await contestant.submit_all(count)
    await contestant.until_ended(before + count)
    return count / (time.perf_counter() - began)


async def idle_latency(contestant: Contestant, count: int) -> list[float]:
    """Seconds from the submission of a task to its end in the database, while no other task exists."""
    taken: list[float] = []
    for _ in range(count):
        taken.append(await _latency(contestant, UNPOLLED_SHARE * min(taken, default=0.0)))
    return taken


async def submissions(contestant: Contestant, count: int) -> float:
    """Submissions per second of one client, each durable before the next."""
    began = time.perf_counter()
    for _ in range(count):
        await contestant.submit()
    return count / (time.perf_counter() - began)


async def _latency(contestant: Contestant, unpolled: float) -> float:
    """The latency of one task; no query in the first `unpolled` seconds, because each query takes processor time."""
    await asyncio.sleep(PAUSE)
    began = time.perf_counter()
    task = await contestant.submit()
    await asyncio.sleep(began + unpolled - time.perf_counter())
    while not await contestant.has_ended(task):  # noqa: ASYNC110 - the database sends no notification
        await asyncio.sleep(POLL_INTERVAL)
    return time.perf_counter() - began
