"""Uploads the newest checkpoint of a running program, one at a time.

Older checkpoints are deleted from the object store once control has acknowledged a newer one, because each may be as
large as the model and its optimizer state.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import structlog

from contracts.artifacts import MANIFEST, checkpoint_prefix
from infra.artifacts import RETRY_WHILE_UNAVAILABLE, BadArtifact, remove, upload
from infra.asyncio_tasks import shield_until_done
from infra.objects import ObjectRefused, ObjectStore, ObjectStoreUnavailable
from infra.worker.attempt import Attempt

CHECK_INTERVAL = 1.0
"""Seconds between two checks for a new checkpoint."""

log = structlog.get_logger(__name__)


class Checkpoints:
    """The checkpoints of one attempt; sets `attempt.checkpoint` to the newest one in the object store.

    A failed upload is logged and does not fail the attempt.
    """

    def __init__(self, objects: ObjectStore, attempt: Attempt, job: Path) -> None:
        self._objects = objects
        self._attempt = attempt
        self._written = job / "checkpoints"
        self._pinned = job / "uploading"
        self._saved: list[str] = []
        """Prefixes in the object store, oldest first."""

    async def follow(self) -> None:
        """Upload each new checkpoint until cancelled; after that nothing is written to the object store."""
        attempted = None
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            newest = self._newest()
            if newest != attempted:
                await self.save()
                attempted = newest
            await self._delete_superseded()

    async def save(self) -> None:
        """Upload the newest complete checkpoint; each retry looks up the newest one again."""
        try:
            await RETRY_WHILE_UNAVAILABLE.copy()(self._upload_newest)
        except (ObjectStoreUnavailable, ObjectRefused, BadArtifact, OSError) as error:
            log.warning("checkpoint_not_saved", error=str(error))

    async def _delete_superseded(self) -> None:
        """Delete the checkpoints older than the acknowledged one: the next attempt starts from that or a newer one."""
        if self._attempt.acknowledged_checkpoint not in self._saved:
            return
        try:
            while self._saved[0] != self._attempt.acknowledged_checkpoint:
                await remove(self._objects, await self._objects.names(f"{self._saved[0]}/"))
                log.info("checkpoint_superseded", prefix=self._saved.pop(0))
        except (ObjectStoreUnavailable, ObjectRefused) as error:  # retention deletes them later
            log.warning("superseded_checkpoint_not_deleted", error=str(error))

    async def _upload_newest(self) -> None:
        newest = self._newest()
        if newest is None:
            return
        prefix = checkpoint_prefix(self._attempt.key, _step(newest))
        if prefix == self._attempt.checkpoint:
            return
        await shield_until_done(asyncio.to_thread(self._pin, newest))  # the next upload pins to the same folder
        await upload(self._objects, prefix, self._pinned)
        self._attempt.checkpoint = prefix
        self._saved.append(prefix)
        log.info("checkpoint_saved", prefix=prefix)

    def _newest(self) -> Path | None:
        complete = [path.parent for path in self._written.glob(f"step-*/{MANIFEST}")]
        numbered = [path for path in complete if _step(path) >= 0]
        return max(numbered, key=_step, default=None)

    def _pin(self, checkpoint: Path) -> None:
        """Hard-link the files, because the program may delete the checkpoint during the upload."""
        shutil.rmtree(self._pinned, ignore_errors=True)
        shutil.copytree(checkpoint, self._pinned, copy_function=os.link)


def _step(checkpoint: Path) -> int:
    """The number in the name; -1 if the name has none."""
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1
