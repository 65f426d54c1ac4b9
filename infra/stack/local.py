"""The three servers that Treadle needs, as private processes: PostgreSQL, S3 and, where it is installed, RabbitMQ."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from pydantic import SecretStr

from infra.settings import IN_PROCESS, Settings
from infra.stack.errors import StackFailed
from infra.stack.postgres import PostgresNode
from infra.stack.rabbitmq import RabbitMQNode, rabbitmq_script
from infra.stack.s3 import S3Node

Broker = Literal["auto", "rabbitmq", "in-process"]
LOCK_TIMEOUT = 20.0
"""How long the servers of a stack that was killed may take to end before we call the folder busy."""


class Node(Protocol):
    """What the servers share."""

    async def start(self) -> None:
        """Start it, and wait until it serves."""
        ...

    async def stop(self) -> None:
        """End it; harmless where it does not run."""
        ...


class LocalStack:
    """The servers of one folder. Their data stays there, and the next stack on it goes on with them."""

    def __init__(self, folder: Path, broker: Broker = "auto") -> None:
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        self.postgres = PostgresNode(self._folder / "postgres", self._lock)
        self.s3 = S3Node(self._folder / "s3", self._lock)
        wanted = broker == "rabbitmq" or (broker == "auto" and rabbitmq_script("rabbitmq-server") is not None)
        self.rabbitmq = RabbitMQNode(self._folder / "rabbitmq", self._lock) if wanted else None

    async def __aenter__(self) -> Self:
        """Start all at once. Raises StackFailed, with none left running."""
        try:
            await self._alone()
            await _all(node.start() for node in self._nodes())
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all, whatever happened."""
        await self._stop()

    def settings(self, **more: Any) -> Settings:  # noqa: ANN401 - the fields of Settings, checked there
        """Settings that point at these servers."""
        here = {
            "bus_url": SecretStr(self.rabbitmq.url if self.rabbitmq else IN_PROCESS),
            "database_url": SecretStr(self.postgres.dsn()),
            "s3_endpoint": self.s3.endpoint,
            "s3_access_key": SecretStr(self.s3.access_key),
            "s3_secret_key": SecretStr(self.s3.secret_key),
            "work_dir": self._folder / "work",
        }
        return Settings(**{**here, **more})

    def describe(self) -> dict[str, str]:
        """What runs, for people: broker, database and object store, with their versions."""
        return {
            "broker": f"rabbitmq {self.rabbitmq.version}" if self.rabbitmq else IN_PROCESS,
            "database": f"postgresql {self.postgres.version} (embedded)",
            "object_store": f"rclone {self.s3.version}",
        }

    def _nodes(self) -> list[Node]:
        nodes: list[Node | None] = [self.rabbitmq, self.postgres, self.s3]
        return [node for node in nodes if node is not None]

    async def _alone(self) -> None:
        """Wait for a lock that every server inherits: it is free once all of an earlier stack have ended."""
        end = time.monotonic() + LOCK_TIMEOUT
        while not _locked(self._lock):
            if time.monotonic() > end:
                raise StackFailed(f"another local stack runs in {self._folder}: stop it, or choose another folder")
            await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        try:
            await _all(node.stop() for node in self._nodes())
        finally:
            os.close(self._lock)


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    """Await all to their end, and only then raise the first error."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if outcome is not None:
            raise outcome


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
