"""What is measured of every contestant, by the same code."""

from __future__ import annotations

import asyncio
import time

from benchmarks.control.contestant import Contestant

GLANCE = 0.0005
"""Seconds between two looks at the one task under way."""
QUIET = 0.6
"""Of the shortest time so far: before that there is nothing to see."""
REST = 0.01
"""Seconds of quiet between two tasks that are timed alone."""


async def throughput(contestant: Contestant, count: int) -> float:
    """Tasks a second, from the first submission until the database says that all have ended."""
    before = await contestant.ended()
    began = time.perf_counter()
    await contestant.submit_all(count)
    await contestant.until_ended(before + count)
    return count / (time.perf_counter() - began)


async def idle_latency(contestant: Contestant, count: int) -> list[float]:
    """Seconds from the submission of one task to its end in the database, nothing else under way."""
    taken: list[float] = []
    for _ in range(count):
        taken.append(await _one(contestant, QUIET * min(taken, default=0.0)))
    return taken


async def submissions(contestant: Contestant, count: int) -> float:
    """Submissions a second of one client, each durable before the next is made."""
    began = time.perf_counter()
    for _ in range(count):
        await contestant.submit()
    return count / (time.perf_counter() - began)


async def _one(contestant: Contestant, quiet: float) -> float:
    """Nobody looks for the first `quiet` seconds: each look costs the two cores a third of a millisecond."""
    await asyncio.sleep(REST)
    began = time.perf_counter()
    task = await contestant.submit()
    await asyncio.sleep(began + quiet - time.perf_counter())
    while not await contestant.has_ended(task):  # noqa: ASYNC110 - the database tells nobody
        await asyncio.sleep(GLANCE)
    return time.perf_counter() - began
