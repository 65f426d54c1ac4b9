"""PgQueuer: each entrypoint enqueues the next; the queue and the log are tables in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from itertools import pairwise
from uuid import uuid4

import asyncpg
import uvloop
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer, Queries

from benchmarks.control.contestant import DATABASE, PHASES, Contestant, Promises

FETCH_SIZE = 50
ENQUEUE_SIZE = 500
"""Jobs in one fetch of a worker, and in one enqueue statement."""
NEXT = dict(pairwise(PHASES))


class PgQueuerJobs(Contestant):
    """One process per phase, which fetches up to 50 jobs at a time."""

    name = "pgqueuer"
    module = __name__
    promises = Promises(outbox="same database", inbox="no", fence="no", history="job log", redelivery="after 30 s")
    ended_sql = "SELECT count(*) FROM ended"
    ended_one_sql = "SELECT count(*) FROM ended WHERE task = $1"

    async def open(self) -> None:
        """Create the schema, a table of the ended tasks, and the client."""
        self._pool = await asyncpg.create_pool(self.dsn, min_size=1, max_size=2)
        self._queries = Queries(AsyncpgPoolDriver(self._pool))
        await self._queries.install()
        await self.database.execute("CREATE TABLE ended (task text PRIMARY KEY)")

    async def close(self) -> None:
        """Close the client."""
        await self._pool.close()

    async def submit(self) -> str:
        """Enqueue one job."""
        task = str(uuid4())
        await self._queries.enqueue("optimize", task.encode())
        return task

    async def submit_all(self, count: int) -> None:
        """Enqueue jobs in batches, each with one statement."""
        for begin in range(0, count, ENQUEUE_SIZE):
            size = min(ENQUEUE_SIZE, count - begin)
            await self._queries.enqueue(["optimize"] * size, [str(uuid4()).encode() for _ in range(size)], [0] * size)


async def serve(phase: str) -> None:
    """Work on one entrypoint until SIGTERM."""
    async with asyncpg.create_pool(os.environ[DATABASE], min_size=2, max_size=10) as pool:
        queuer = PgQueuer(AsyncpgPoolDriver(pool))
        queries = Queries(AsyncpgPoolDriver(pool))

        @queuer.entrypoint(phase)
        async def work(job: Job) -> None:
            if phase in NEXT:
                await queries.enqueue(NEXT[phase], job.payload)
            else:
                assert job.payload is not None, "every job has a payload"
                await pool.execute("INSERT INTO ended VALUES ($1) ON CONFLICT DO NOTHING", job.payload.decode())

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
        await queuer.run(batch_size=FETCH_SIZE)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
