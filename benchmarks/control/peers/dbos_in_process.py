"""DBOS in process: a workflow of three steps, recorded in PostgreSQL, in the process that starts it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from dbos import DBOS, SetWorkflowID

from benchmarks.control.contestant import Contestant, Promises

CONCURRENCY = 50


@DBOS.step()
async def phase(task: str) -> str:
    """Do nothing; DBOS records the step."""
    return task


@DBOS.workflow()
async def three_phases(task: str) -> str:
    """The three phases of one task."""
    for _ in range(3):
        task = await phase(task)
    return task


class DbosInProcess(Contestant):
    """No worker processes: a workflow runs in the process that starts it."""

    name = "dbos"
    module = __name__
    processes = ()
    promises = Promises(
        outbox="same database", inbox="by workflow id", fence="no", history="steps", redelivery="by hand, or Conductor"
    )
    ended_sql = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"
    ended_one_sql = "SELECT count(*) FROM dbos.workflow_status WHERE workflow_uuid = $1 AND status = 'SUCCESS'"

    async def open(self) -> None:
        """Launch DBOS, which creates its schema."""
        self._dbos = DBOS(
            config={
                "name": "bench",
                "system_database_url": self.dsn.replace("postgresql:", "postgresql+psycopg:"),
                "log_level": "WARNING",
                "application_version": "1",
            }
        )
        await asyncio.to_thread(DBOS.launch)

    async def close(self) -> None:
        """Stop DBOS."""
        await asyncio.to_thread(DBOS.destroy)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())  # DBOS has shut down its own

    async def submit(self) -> str:
        """Start one workflow, which is recorded when this returns."""
        task = str(uuid4())
        with SetWorkflowID(task):
            await DBOS.start_workflow_async(three_phases, task)
        return task

    async def submit_all(self, count: int) -> None:
        """Start several workflows concurrently."""
        semaphore = asyncio.Semaphore(CONCURRENCY)

        async def submit_one() -> None:
            async with semaphore:
                await self.submit()

        await asyncio.gather(*(submit_one() for _ in range(count)))
