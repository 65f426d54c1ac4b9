"""Dramatiq: a pipeline of three actors on durable queues with confirms; each actor updates the row of the task."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from uuid import uuid4

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from psycopg_pool import ConnectionPool

from benchmarks.control.contestant import BROKER, DATABASE, PHASES, Contestant, Promises

THREADS = 8


def actors_on(broker: str, pool: ConnectionPool) -> list[dramatiq.Actor[..., str]]:
    """The three actors, in order."""
    rabbitmq = RabbitmqBroker(url=broker, confirm_delivery=True)
    dramatiq.set_broker(rabbitmq)
    return [_actor(phase, rabbitmq, pool) for phase in PHASES]


def _actor(phase: str, broker: RabbitmqBroker, pool: ConnectionPool) -> dramatiq.Actor[..., str]:
    def work(task: str) -> str:
        with pool.connection() as connection:
            connection.execute("UPDATE task SET phase = %s, updated_at = now() WHERE id = %s", (phase, task))
        return task

    return dramatiq.actor(work, actor_name=phase, queue_name=f"dramatiq_{phase}", broker=broker)


class DramatiqPipeline(Contestant):
    """One process with eight threads per phase."""

    name = "dramatiq"
    module = __name__
    promises = Promises(outbox="no", inbox="no", fence="no", history="no", redelivery="at once, never past 30 min")
    ended_sql = "SELECT count(*) FROM task WHERE phase = 'evaluate'"
    ended_one_sql = "SELECT count(*) FROM task WHERE id = $1 AND phase = 'evaluate'"

    async def open(self) -> None:
        """Create the table and the actors."""
        await self.database.execute(
            "CREATE TABLE task (id text PRIMARY KEY, phase text NOT NULL, updated_at timestamptz NOT NULL)"
        )
        self._pool = ConnectionPool(self.dsn, min_size=1, max_size=2, open=True)
        self._actors = actors_on(self.broker, self._pool)

    async def close(self) -> None:
        """Close the client's connections."""
        await asyncio.to_thread(dramatiq.get_broker().close)
        await asyncio.to_thread(self._pool.close)

    async def submit(self) -> str:
        """Insert a row, then publish its message; a crash in between leaves a row without a message."""
        return await asyncio.to_thread(self._submit)

    async def submit_all(self, count: int) -> None:
        """Submit one pipeline after another, because there is no bulk call."""
        await asyncio.to_thread(lambda: [self._submit() for _ in range(count)])

    def _submit(self) -> str:
        task = str(uuid4())
        with self._pool.connection() as connection:
            connection.execute("INSERT INTO task VALUES (%s, 'new', now())", (task,))
        optimize, train, evaluate = self._actors
        dramatiq.pipeline([optimize.message(task), train.message(), evaluate.message()]).run()
        return task


def serve(phase: str) -> None:
    """Work on one queue until SIGTERM or SIGINT."""
    with ConnectionPool(os.environ[DATABASE], min_size=THREADS, max_size=THREADS, open=True) as pool:
        actors_on(os.environ[BROKER], pool)
        worker = dramatiq.Worker(dramatiq.get_broker(), queues={f"dramatiq_{phase}"}, worker_threads=THREADS)
        worker.start()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        worker.stop()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    serve(sys.argv[1])
