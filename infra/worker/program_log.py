"""Uploads the log of a running program, masked, so that it can be read while it runs and after its worker has died.

S3 cannot append, so a log is stored as parts, each named after its first byte. The newest part is uploaded again as it
grows, and a full one never changes: an upload costs at most one part besides what is new, and a place in the log stays
the same for those who follow it. Of a log that is too large, parts in the middle are deleted.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import structlog

from contracts.artifacts import log_part
from contracts.errors import TreadleError
from contracts.tasks import AttemptKey
from infra.asyncio_tasks import log_failure
from infra.objects import ObjectStore
from infra.worker.masking import Masker

UPLOAD_INTERVAL = 30.0
"""Seconds between two uploads of a log that grows."""
FINISH_TIMEOUT = 5.0
"""Seconds by which the upload of the rest may delay the end of an attempt."""
FINISH_TRIES, RETRY_PAUSE = 3, 0.5
"""Uploads of the rest that are tried within this time, and the seconds between them."""
PART = 1_000_000
"""Bytes of a full part, masked."""
FIRST_PARTS, LAST_PARTS = 10, 10
"""Parts that are kept of the beginning and of the end of a log, together 20 MB."""
BLOCK = 64 * 1024
"""Bytes that are read and masked at a time."""

log = structlog.get_logger(__name__)


class ProgramLog:
    """The log of one attempt. No error of an upload fails the attempt: it is logged, and the next upload retries."""

    def __init__(self, objects: ObjectStore, key: AttemptKey, path: Path, secrets: Collection[bytes]) -> None:
        self._objects = objects
        self._key = key
        self._path = path
        self._secrets = secrets
        self._masker = Masker(secrets)
        self._read = 0
        """Bytes of the file that were read or left out."""
        self._start = 0
        """The first byte of the newest part in the masked log."""
        self._masked = bytearray()
        """The newest part, and perhaps the beginning of the next one."""
        self._stored = 0
        """Bytes of the newest part that are in the object store."""
        self._first = 0
        """Full parts of the beginning."""
        self._last: deque[int] = deque()
        """The starts of the full parts after them, oldest first."""
        self._uploading: asyncio.Task[None] | None = None
        self.behind = False
        """Whether the object store lacks something that was to be uploaded."""

    async def follow(self) -> None:
        """Upload what is new every UPLOAD_INTERVAL until cancelled; a cancellation does not wait for an upload."""
        while True:
            await asyncio.sleep(UPLOAD_INTERVAL)
            if self.behind or self._size() > self._read:
                self._uploading = asyncio.create_task(self._upload(ended=False), name="upload of a log")
                log_failure(self._uploading)
                await asyncio.wait({self._uploading})

    async def finish(self) -> None:
        """Upload the rest of an ended program's log, but wait at most FINISH_TIMEOUT for it."""
        if self._uploading is None and self._size() == 0:
            return
        self.behind = True
        finishing = asyncio.create_task(self._finish(), name="last upload of a log")
        log_failure(finishing)
        await asyncio.wait({finishing}, timeout=FINISH_TIMEOUT)
        if not finishing.done():
            finishing.cancel()
            log.warning("program_log_not_uploaded", error=f"the object store took longer than {FINISH_TIMEOUT:g} s")

    async def _finish(self) -> None:
        if self._uploading is not None:
            await asyncio.wait({self._uploading})
        for number in range(FINISH_TRIES):
            await asyncio.sleep(RETRY_PAUSE if number else 0)
            await self._upload(ended=True)
            if not self.behind:
                return

    async def _upload(self, *, ended: bool) -> None:
        """Upload what the file has now; `ended` includes a last line without an end."""
        self.behind, until = True, self._size()
        try:
            while await asyncio.to_thread(self._fill, until, ended):
                await self._objects.put(log_part(self._key, self._start), bytes(self._masked[:PART]))
                self._stored = min(len(self._masked), PART)
                if self._stored == PART:
                    await self._begin_part()
            self.behind = False
        except (TreadleError, OSError) as error:
            log.warning("program_log_not_uploaded", error=str(error))

    async def _begin_part(self) -> None:
        """Begin the part after a full one, and delete the oldest one that is not kept."""
        if self._first < FIRST_PARTS:
            self._first += 1
        else:
            self._last.append(self._start)
        self._start, self._stored = self._start + PART, 0
        del self._masked[:PART]
        while len(self._last) >= LAST_PARTS:
            await self._objects.delete([log_part(self._key, self._last[0])])
            self._last.popleft()

    def _fill(self, until: int, ended: bool) -> bool:
        """Read and mask until the part is full, or up to byte `until`. Returns whether there is more to store."""
        if self._read < until:
            with _opened(self._path) as file:
                self._leave_out(file, until)
                file.seek(self._read)
                while len(self._masked) < PART and (block := file.read(min(BLOCK, until - self._read))):
                    self._read += len(block)
                    self._masked += self._masker.feed(block)
        if ended and self._read >= until:
            self._masked += self._masker.flush()
        return min(len(self._masked), PART) > self._stored

    def _leave_out(self, file: BinaryIO, until: int) -> None:
        """Skip what would not be kept: a program may write faster than parts are uploaded."""
        skipped = until - LAST_PARTS * PART - self._read
        if skipped <= 0 or self._first < FIRST_PARTS or self._stored:
            return
        file.seek(self._read + skipped)
        rest_of_line = file.read(BLOCK).find(b"\n") + 1  # which may begin in the middle of a secret
        skipped += rest_of_line
        self._start += len(self._masked) + self._masker.kept_back + skipped
        self._read += skipped
        self._masked.clear()
        self._masker = Masker(self._secrets, inside=rest_of_line == 0)

    def _size(self) -> int:
        """Bytes of the log; 0 if the program has none, such as a coroutine in a test."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


def _opened(path: Path) -> BinaryIO:
    """Open a regular file. Raises OSError if the program has put something else in its place, which could block."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is no regular file")
    return file
