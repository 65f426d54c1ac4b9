"""Celery: a chain of three tasks on quorum queues, with confirms and late acknowledgement, results in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sys

from celery import Celery, chain
from kombu import Exchange, Queue

from benchmarks.control.contestant import BROKER, DATABASE, PHASES, Contestant, Promises


def app_on(broker: str, dsn: str) -> Celery:
    """The application with its three tasks."""
    app = Celery("bench", broker=broker, backend="db+" + dsn.replace("postgresql:", "postgresql+psycopg:"))
    exchange = Exchange("celery_bench", type="direct")
    app.conf.update(
        task_queues=[
            Queue(f"celery_{phase}", exchange, f"celery_{phase}", queue_arguments={"x-queue-type": "quorum"})
            for phase in PHASES
        ],
        task_routes={phase: {"queue": f"celery_{phase}", "routing_key": f"celery_{phase}"} for phase in PHASES},
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    for phase in PHASES:
        app.task(name=phase)(_phase)
    return app


def _phase(task: str) -> str:
    return task


class CeleryChain(Contestant):
    """Two prefork processes per phase, because this pool keeps its database connections."""

    name = "celery"
    module = __name__
    promises = Promises(
        outbox="no", inbox="no", fence="no", history="last result", redelivery="at once, never past 30 min"
    )
    ended_sql = "SELECT count(*) / 3 FROM celery_taskmeta WHERE status = 'SUCCESS'"
    ended_one_sql = "SELECT count(*) FROM celery_taskmeta WHERE task_id = $1 AND status = 'SUCCESS'"

    async def open(self) -> None:
        """Create the result tables."""
        self._app = app_on(self.broker, self.dsn)
        self._number = 0
        await asyncio.to_thread(lambda: self._app.backend.ResultSession().close())

    async def close(self) -> None:
        """Close the client's connections."""
        await asyncio.to_thread(self._app.close)

    async def submit(self) -> str:
        """Submit one chain; returns the id of its last task."""
        return await asyncio.to_thread(self._submit)

    async def submit_all(self, count: int) -> None:
        """Submit one chain after another, because there is no bulk call."""
        await asyncio.to_thread(lambda: [self._submit() for _ in range(count)])

    def _submit(self) -> str:
        self._number += 1
        tasks = self._app.tasks
        result = chain(tasks["optimize"].s(str(self._number)), tasks["train"].s(), tasks["evaluate"].s()).apply_async()
        return str(result.id)


if __name__ == "__main__":
    phase = sys.argv[1]
    app = app_on(os.environ[BROKER], os.environ[DATABASE])
    app.worker_main(
        [
            *("worker", "--queues", f"celery_{phase}", "--hostname", f"{phase}@bench", "--concurrency", "2"),
            *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
        ]
    )
