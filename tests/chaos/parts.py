"""The servers of a chaos run, each behind a proxy with a fixed address: they may come back on another port."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from infra.settings import Settings
from infra.stack.postgres import PostgresNode
from infra.stack.rabbitmq import RabbitMQNode
from infra.stack.s3 import S3Node
from tests.chaos.proxy import Proxy

TTL = 3.0
"""Seconds of a lease: short, so that a run of minutes sees many that are lost."""


@dataclass(frozen=True)
class Parts:
    """A broker, a database and an object store, all private."""

    folder: Path
    rabbitmq: RabbitMQNode
    postgres: PostgresNode
    s3: S3Node
    broker: Proxy
    database: Proxy
    objects: Proxy

    def settings(self) -> Settings:
        """What every service of the run is told."""
        return Settings(
            bus_url=SecretStr(_through(self.broker, self.rabbitmq.url)),
            database_url=SecretStr(_through(self.database, self.postgres.dsn())),
            s3_endpoint=_through(self.objects, self.s3.endpoint),
            s3_access_key=SecretStr(self.s3.access_key),
            s3_secret_key=SecretStr(self.s3.secret_key),
            short_ttl=TTL,
            train_ttl=TTL,
            reaper_tick=0.5,
            sweep_after=TTL,
            stop_grace=2.0,
            worker_slots=8,
            log_json=True,
            work_dir=self.folder / "work",
        )

    async def crash_database(self) -> None:
        """End PostgreSQL at once, as `pg_ctl stop -m immediate` does, and start it again: it recovers from its log."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGQUIT)
        while self.postgres.pid is not None:  # noqa: ASYNC110 - a process that ends tells its parent alone
            await asyncio.sleep(0.02)
        await self.postgres.start()

    @property
    def bucket(self) -> Path:
        """Where rclone keeps the objects, as plain files."""
        return self.folder / "s3" / "data" / self.settings().s3_bucket


@asynccontextmanager
async def parts(folder: Path) -> AsyncIterator[Parts]:
    """All three, started."""
    rabbitmq, postgres, s3 = RabbitMQNode(folder / "rabbitmq"), PostgresNode(folder / "postgres"), S3Node(folder / "s3")
    async with AsyncExitStack() as stack:
        for node in (postgres, s3, rabbitmq):
            stack.push_async_callback(node.stop)
            await node.start()
        made = Parts(
            folder,
            rabbitmq,
            postgres,
            s3,
            Proxy(lambda: _port(rabbitmq.url)),
            Proxy(lambda: _port(postgres.dsn())),
            Proxy(lambda: _port(s3.endpoint)),
        )
        for proxy in (made.broker, made.database, made.objects):
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        yield made


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _through(proxy: Proxy, url: str) -> str:
    """The same address, by way of the proxy."""
    return url.replace(f":{_port(url)}", f":{proxy.port}", 1)
