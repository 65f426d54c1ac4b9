"""The servers that Treadle needs, as private processes: PostgreSQL, S3 and, if it is installed, RabbitMQ."""

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

from contracts.roles import Role
from infra.private_folders import create_private, make_private
from infra.settings import IN_PROCESS, Settings
from infra.stack.causes import cause_of
from infra.stack.errors import StackFailed, not_started
from infra.stack.postgres import PostgresNode
from infra.stack.rabbitmq import RabbitMQNode, rabbitmq_script
from infra.stack.s3 import S3Node

Broker = Literal["auto", "rabbitmq", "in-process"]
LOCK_TIMEOUT = 20.0
"""Seconds to wait for the servers of a killed stack to end; after that, the folder counts as in use."""


class Node(Protocol):
    """The interface of the servers."""

    async def start(self) -> None:
        """Start the server and wait until it accepts requests. Raises StackFailed, or OSError about its files."""
        ...

    async def stop(self) -> None:
        """Stop the server; no error if it does not run."""
        ...


class LocalStack:
    """The servers of one folder, which keeps their data for the next stack in the same folder."""

    def __init__(self, folder: Path, broker: Broker = "auto") -> None:
        try:
            self._folder = create_private(folder.resolve())
            self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise not_started("the local stack", cause_of(error)) from error
        self.postgres = PostgresNode(self._folder / "postgres", self._lock)
        self.s3 = S3Node(self._folder / "s3", self._lock)
        use_rabbitmq = broker == "rabbitmq" or (broker == "auto" and rabbitmq_script("rabbitmq-server") is not None)
        self.rabbitmq = RabbitMQNode(self._folder / "rabbitmq", self._lock) if use_rabbitmq else None
        self._needs_rabbitmq = broker == "rabbitmq"
        self.notice: str | None = None
        """Why the bus is in-process although RabbitMQ is installed, as a sentence."""

    async def __aenter__(self) -> Self:
        """Start all servers in parallel. Raises StackFailed if one does not start, after stopping the others.

        With `auto`, the bus is in-process if RabbitMQ does not start; `notice` then says why.
        """
        try:
            await self._acquire_lock()
            make_private(self._folder)  # with the lock, because this closes the passage of a running PostgreSQL
            await self._start_all()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all servers."""
        await self._stop()

    def settings(self, **more: Any) -> Settings:  # noqa: ANN401 - the fields of Settings, checked there
        """Settings with the addresses of these servers; `more` overrides them."""
        addresses = {
            "bus_url": SecretStr(self.rabbitmq.url if self.rabbitmq else IN_PROCESS),
            "database_url": SecretStr(self.postgres.dsn()),
            "s3_endpoint": self.s3.endpoint,
            "s3_access_key": SecretStr(self.s3.access_key),
            "s3_secret_key": SecretStr(self.s3.secret_key),
            "work_dir": self._folder / "work",
        }
        return Settings(**{**addresses, **more})

    def accounts(self) -> dict[Role, SecretStr]:
        """The URL of the broker with the account of each role; empty for the in-process bus."""
        return {role: SecretStr(self.rabbitmq.url_of(role)) for role in Role} if self.rabbitmq else {}

    def describe(self) -> dict[str, str]:
        """Broker, database and object store with their versions, for display."""
        return {
            "broker": f"rabbitmq {self.rabbitmq.version}" if self.rabbitmq else IN_PROCESS,
            "database": f"postgresql {self.postgres.version} (embedded)",
            "object_store": f"rclone {self.s3.version}",
        }

    async def _start_all(self) -> None:
        """Start the servers; the first that does not start ends the start of the others."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_broker())
                group.create_task(_start("PostgreSQL", self.postgres))
                group.create_task(_start("the S3 server", self.s3))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _start_broker(self) -> None:
        if self.rabbitmq is None:
            return
        node, had_data = self.rabbitmq, self.rabbitmq.has_data
        try:
            await _start("RabbitMQ", node)
        except StackFailed as error:
            if self._needs_rabbitmq:
                raise
            await node.stop()
            self.rabbitmq = None
            waiting = "; submissions and dead letters in its queues wait until it starts again" if had_data else ""
            self.notice = f"{error}; going on with the in-process bus{waiting}"

    def _nodes(self) -> list[Node]:
        nodes: list[Node | None] = [self.rabbitmq, self.postgres, self.s3]
        return [node for node in nodes if node is not None]

    async def _acquire_lock(self) -> None:
        """Lock the folder. Servers inherit the lock, so it is free when all servers of an earlier stack have ended."""
        end = time.monotonic() + LOCK_TIMEOUT
        while not _try_lock(self._lock):
            if time.monotonic() > end:
                raise StackFailed(f"another local stack runs in {self._folder}: stop it, or choose another folder")
            await asyncio.sleep(0.1)

    async def _stop(self) -> None:
        try:
            await _all(node.stop() for node in self._nodes())
        finally:
            os.close(self._lock)


async def _all(steps: Iterable[Awaitable[None]]) -> None:
    """Await all, then raise the first error, if any."""
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if outcome is not None:
            raise outcome


async def _start(name: str, node: Node) -> None:
    try:
        await node.start()
    except OSError as error:
        raise not_started(name, cause_of(error)) from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
