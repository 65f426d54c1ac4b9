"""A program's checkpoints on their way to the store while it runs: one at a time, and always the newest.

Those before the one that control knows of are deleted there again: each may be as large as the model and its optimizer.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import structlog

from contracts.artifacts import MANIFEST
from infra.artifacts import PATIENTLY, BadArtifact, remove, upload
from infra.objects import ObjectRefused, ObjectStore, ObjectStoreUnavailable
from infra.tasks import seen_through
from infra.worker.attempt import Attempt

LOOK_EVERY = 1.0
"""Seconds between two looks for a new checkpoint."""

log = structlog.get_logger(__name__)


class Checkpoints:
    """Those of one attempt, which remembers where the newest one in the store is.

    What cannot be uploaded costs the next attempt some work, and this one nothing: it is logged and passed over.
    """

    def __init__(self, objects: ObjectStore, attempt: Attempt, job: Path) -> None:
        self._objects = objects
        self._attempt = attempt
        self._written = job / "checkpoints"
        self._pinned = job / "uploading"
        self._saved: list[str] = []
        """Prefixes in the store, oldest first."""

    async def follow(self) -> None:
        """Save each new checkpoint until cancelled; then nothing more is written to the store."""
        tried = None
        while True:
            await asyncio.sleep(LOOK_EVERY)
            newest = self._newest()
            if newest != tried:
                await self.save()
                tried = newest
            await self._drop_superseded()

    async def save(self) -> None:
        """See the newest complete checkpoint into the store, patiently: each try takes the newest anew."""
        try:
            await PATIENTLY.copy()(self._upload_newest)
        except (ObjectStoreUnavailable, ObjectRefused, BadArtifact, OSError) as error:
            log.warning("checkpoint_not_saved", error=str(error))

    async def _drop_superseded(self) -> None:
        """Whoever takes the attempt over goes on from the one that control knows of, or a newer one."""
        if self._attempt.known not in self._saved:
            return
        try:
            while self._saved[0] != self._attempt.known:
                await remove(self._objects, await self._objects.names(f"{self._saved[0]}/"))
                log.info("checkpoint_superseded", prefix=self._saved.pop(0))
        except (ObjectStoreUnavailable, ObjectRefused) as error:  # retention finds them later
            log.warning("superseded_checkpoint_not_deleted", error=str(error))

    async def _upload_newest(self) -> None:
        newest = self._newest()
        if newest is None:
            return
        prefix = f"{self._attempt.command.output}/checkpoint-{_step(newest)}"
        if prefix == self._attempt.checkpoint:
            return
        await seen_through(asyncio.to_thread(self._pin, newest))  # the next one will pin at the same place
        await upload(self._objects, prefix, self._pinned)
        self._attempt.checkpoint = prefix
        self._saved.append(prefix)
        log.info("checkpoint_saved", prefix=prefix)

    def _newest(self) -> Path | None:
        complete = [path.parent for path in self._written.glob(f"step-*/{MANIFEST}")]
        return max(complete, key=_step, default=None)

    def _pin(self, checkpoint: Path) -> None:
        """Link its files, for the program removes old checkpoints while we upload."""
        shutil.rmtree(self._pinned, ignore_errors=True)
        shutil.copytree(checkpoint, self._pinned, copy_function=os.link)


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1
