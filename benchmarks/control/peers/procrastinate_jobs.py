"""Procrastinate: each job defers the next; the queue and the state are one table in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sys
from uuid import uuid4

from procrastinate import App, PsycopgConnector

from benchmarks.control.contestant import DATABASE, PHASES, Contestant, Promises

CONCURRENCY = 32
BATCH_SIZE = 200
"""Jobs in one statement of `submit_all`."""


def app_on(dsn: str) -> App:
    """The application with its three tasks."""
    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=2, max_size=10))
    for phase, following in zip(PHASES, (*PHASES[1:], None), strict=True):
        _define(app, phase, following)
    return app


def _define(app: App, phase: str, following: str | None) -> None:
    async def work(task: str) -> None:
        if following is not None:
            await app.configure_task(following, queue=following).defer_async(task=task)

    app.task(name=phase, queue=phase)(work)


class ProcrastinateJobs(Contestant):
    """One process per phase, which runs up to 32 jobs at a time."""

    name = "procrastinate"
    module = __name__
    promises = Promises(
        outbox="same database", inbox="no", fence="no", history="job events", redelivery="by a task of one's own"
    )
    ended_sql = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'evaluate' AND status = 'succeeded'"
    ended_one_sql = """SELECT count(*) FROM procrastinate_jobs
        WHERE task_name = 'evaluate' AND status = 'succeeded' AND args ->> 'task' = $1"""

    async def open(self) -> None:
        """Create the schema and the client."""
        self._app = app_on(self.dsn)
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()

    async def close(self) -> None:
        """Close the client."""
        await self._app.close_async()

    async def submit(self) -> str:
        """Defer one job."""
        task = str(uuid4())
        await self._app.configure_task("optimize", queue="optimize").defer_async(task=task)
        return task

    async def submit_all(self, count: int) -> None:
        """Defer jobs in batches, each with one statement."""
        jobs = [{"task": str(uuid4())} for _ in range(count)]
        for begin in range(0, count, BATCH_SIZE):
            await self._app.configure_task("optimize", queue="optimize").batch_defer_async(
                *jobs[begin : begin + BATCH_SIZE]
            )


async def serve(phase: str) -> None:
    """Work on one queue until the process is stopped."""
    async with app_on(os.environ[DATABASE]).open_async() as app:
        await app.run_worker_async(queues=[phase], concurrency=CONCURRENCY)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
