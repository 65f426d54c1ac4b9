"""DBOS queued: each phase is a workflow with its own queue and its own worker process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from dbos import DBOS, DBOSClient, EnqueueOptions, SetWorkflowID

from benchmarks.control.contestant import DATABASE, PHASES, Contestant, Promises

POLLING_INTERVAL = 0.05
"""Seconds between two queries of a queue; the default is 1."""
CONCURRENCY = 20
VERSION = "1"


@DBOS.workflow(name="evaluate")
def evaluate(task: str) -> str:
    """The last phase."""
    return task


@DBOS.workflow(name="train")
def train(task: str) -> str:
    """Enqueue the last phase."""
    with SetWorkflowID(f"{task}-evaluate"):
        DBOS.enqueue_workflow("evaluate", evaluate, task)
    return task


@DBOS.workflow(name="optimize")
def optimize(task: str) -> str:
    """Enqueue the second phase."""
    with SetWorkflowID(f"{task}-train"):
        DBOS.enqueue_workflow("train", train, task)
    return task


class DbosQueued(Contestant):
    """Three worker processes, each with one queue."""

    name = "dbos_queued"
    module = __name__
    promises = Promises(
        outbox="same database", inbox="by workflow id", fence="no", history="steps", redelivery="by hand, or Conductor"
    )
    ended_sql = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS' AND name = 'evaluate'"
    ended_one_sql = (
        "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = $1 || '-evaluate' AND status = 'SUCCESS'"
    )

    async def open(self) -> None:
        """Create the schema, the queues and a client."""
        await asyncio.to_thread(_launch, self.dsn, "optimize")
        await asyncio.to_thread(DBOS.destroy)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())  # DBOS has shut down its own
        self._client = DBOSClient(system_database_url=_sqlalchemy(self.dsn))
        for phase in PHASES:
            await asyncio.to_thread(self._client.register_queue, phase, polling_interval_sec=POLLING_INTERVAL)

    async def close(self) -> None:
        """Close the client."""
        await asyncio.to_thread(self._client.destroy)

    async def submit(self) -> str:
        """Enqueue one workflow on the first queue."""
        task = str(uuid4())
        options: EnqueueOptions = {
            "workflow_name": "optimize",
            "queue_name": "optimize",
            "workflow_id": task,
            "app_version": VERSION,
        }
        await self._client.enqueue_async(options, task)
        return task

    async def submit_all(self, count: int) -> None:
        """Enqueue several workflows concurrently."""
        semaphore = asyncio.Semaphore(CONCURRENCY)

        async def submit_one() -> None:
            async with semaphore:
                await self.submit()

        await asyncio.gather(*(submit_one() for _ in range(count)))


def _sqlalchemy(dsn: str) -> str:
    return dsn.replace("postgresql:", "postgresql+psycopg:")


def _launch(dsn: str, phase: str) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": _sqlalchemy(dsn),
            "log_level": "WARNING",
            "application_version": VERSION,
            "executor_id": phase,
        }
    )
    DBOS.listen_queues([phase])
    DBOS.launch()


if __name__ == "__main__":
    _launch(os.environ[DATABASE], sys.argv[1])
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    DBOS.destroy()
