"""A file that a worker touches while it is healthy, so that a health check needs no more than its age.

`test -n "$(find FILE -mmin -1)"` fails a minute after the worker has hung, stopped, or lost its work for any reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from infra.asyncio_tasks import cancel_and_wait, log_failure

INTERVAL = 5.0
"""Seconds between two updates; a tenth of the age that a check allows, because a loaded machine is late."""

log = structlog.get_logger(__name__)


class HealthFile:
    """Keeps one file fresh while `healthy` returns true; the event loop updates it, so a hung loop does not."""

    def __init__(self, path: Path, healthy: Callable[[], bool]) -> None:
        self._path = path
        self._healthy = healthy
        self._failed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to update the file; one of an earlier process is removed before."""
        self._remove()
        self._task = asyncio.create_task(self._update_regularly(), name="health")
        log_failure(self._task)

    async def stop(self) -> None:
        """Stop, and remove the file, so that a stopped worker counts as unhealthy at once."""
        if self._task is not None:
            await cancel_and_wait(self._task)
        self._remove()

    async def _update_regularly(self) -> None:
        while True:
            if self._healthy():
                self._touch()
            await asyncio.sleep(INTERVAL)

    def _touch(self) -> None:
        """Set the file's time to now; an error is logged once, until it is over."""
        try:
            self._path.touch()
        except OSError as error:
            if not self._failed:
                log.warning("health_file_not_written", path=str(self._path), error=error.strerror)
            self._failed = True
        else:
            self._failed = False

    def _remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
