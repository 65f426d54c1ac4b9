"""The readings of one run of a contestant, and the medians over several runs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.control.contestant import Contestant
from benchmarks.control.hops import Hops
from benchmarks.control.load import idle_latency, submissions, throughput
from benchmarks.control.scale import fill, slowest_page
from benchmarks.control.servers import Servers
from benchmarks.control.statements import tally
from benchmarks.control.treadle import Treadle

Reading = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run: numbers of tasks for each reading."""

    tasks: int
    submissions: int
    idle: int
    stored: int
    """Tasks in the full database."""


async def read_peer(peer: type[Contestant], servers: Servers, folder: Path, sizes: Sizes) -> Reading:
    """Throughput, submissions and idle latency, as for every contestant."""
    async with peer.started(servers, folder) as contestant:
        return await _common(contestant, sizes)


async def read_treadle(servers: Servers, folder: Path, sizes: Sizes) -> Reading:
    """The same, and the readings that only Treadle has."""
    async with Treadle.started(servers, folder) as treadle:
        reading = await _idle(treadle, sizes)
        before = await tally(treadle.database)
        reading["tasks_per_s"] = await throughput(treadle, sizes.tasks)
        reading["sql_per_event"] = (await tally(treadle.database)).since(before)
        await fill(treadle.database, sizes.stored)
        reading["tasks_per_s_at_100k"] = await throughput(treadle, sizes.tasks)
        reading["page_ms_at_100k"] = 1e3 * await slowest_page(treadle.http)
    async with Treadle.started(servers, folder, workers=()) as treadle:
        reading |= await _submissions(treadle, sizes)
    async with Hops.open(servers.broker) as hops:
        reading["idle_broker_ms"] = 1e3 * statistics.median([await hops.timed() for _ in range(sizes.idle)])
    return reading


async def _common(contestant: Contestant, sizes: Sizes) -> Reading:
    reading = await _idle(contestant, sizes)
    reading["tasks_per_s"] = await throughput(contestant, sizes.tasks)
    before = await contestant.ended()
    reading["submit_per_s"] = await submissions(contestant, sizes.submissions)
    await contestant.until_ended(before + sizes.submissions)
    return reading


async def _idle(contestant: Contestant, sizes: Sizes) -> Reading:
    latencies = await idle_latency(contestant, sizes.idle)
    return {"idle_p50_ms": 1e3 * statistics.median(latencies), "idle_p99_ms": 1e3 * percentile(latencies, 0.99)}


async def _submissions(treadle: Treadle, sizes: Sizes) -> Reading:
    """Submissions confirmed one by one and in batches, and answered by control; no worker runs meanwhile."""
    one_at_a_time = await submissions(treadle, sizes.submissions)
    await treadle.until_started(sizes.submissions)
    began = time.perf_counter()
    await treadle.submit_all(4 * sizes.submissions)
    in_batches = 4 * sizes.submissions / (time.perf_counter() - began)
    await treadle.until_started(5 * sizes.submissions)
    answers = [await _timed(treadle) for _ in range(sizes.submissions // 2)]
    return {
        "submit_per_s": one_at_a_time,
        "submit_batched_per_s": in_batches,
        "submit_p50_ms": 1e3 * statistics.median(answers),
        "submit_p99_ms": 1e3 * percentile(answers, 0.99),
    }


async def _timed(treadle: Treadle) -> float:
    began = time.perf_counter()
    await treadle.submit_answered()
    return time.perf_counter() - began


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def medians(runs: Sequence[Reading]) -> Reading:
    """The median of each number over the runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]} if runs else {}
