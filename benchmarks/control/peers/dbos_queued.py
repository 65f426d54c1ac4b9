"""DBOS queued: each phase is a workflow on a queue of its own, worked on by a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from dbos import DBOS, DBOSClient, EnqueueOptions, SetWorkflowID

from benchmarks.control.contestant import DATABASE, PHASES, Contestant, Promises

POLL = 0.05
"""Seconds between two looks at a queue; the default is 1."""
VERSION = "1"


@DBOS.workflow(name="evaluate")
def evaluate(task: str) -> str:
    """The last phase."""
    return task


@DBOS.workflow(name="train")
def train(task: str) -> str:
    """Hand on to the last phase."""
    with SetWorkflowID(f"{task}-evaluate"):
        DBOS.enqueue_workflow("evaluate", evaluate, task)
    return task


@DBOS.workflow(name="optimize")
def optimize(task: str) -> str:
    """Hand on to the second phase."""
    with SetWorkflowID(f"{task}-train"):
        DBOS.enqueue_workflow("train", train, task)
    return task


class DbosQueued(Contestant):
    """Three processes that each listen to one queue."""

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
        """Make the schema, the queues and a client."""
        await asyncio.to_thread(_launched, self.dsn, "optimize")
        await asyncio.to_thread(DBOS.destroy)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())  # DBOS put its own, which has ended
        self._client = DBOSClient(system_database_url=_sqlalchemy(self.dsn))
        for phase in PHASES:
            await asyncio.to_thread(self._client.register_queue, phase, polling_interval_sec=POLL)

    async def close(self) -> None:
        """Close the client."""
        await asyncio.to_thread(self._client.destroy)

    async def submit(self) -> str:
        """One workflow on the first queue."""
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
        """Many at once."""
        gate = asyncio.Semaphore(20)

        async def one() -> None:
            async with gate:
                await self.submit()

        await asyncio.gather(*(one() for _ in range(count)))


def _sqlalchemy(dsn: str) -> str:
    return dsn.replace("postgresql:", "postgresql+psycopg:")


def _launched(dsn: str, phase: str) -> None:
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
    _launched(os.environ[DATABASE], sys.argv[1])
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    DBOS.destroy()
