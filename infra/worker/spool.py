"""The spool: an event that the broker has not confirmed soon is on disk until it has, so that a crash loses nothing.

An event is published and kept at the same time, and is safe as soon as either has come to its end.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import BaseModel, Field, ValidationError

from contracts.events import WorkerEvent
from contracts.topology import EVENTS
from contracts.wire import encode
from infra.bus.port import Outgoing
from infra.ending import end

GRACE = 0.2
"""Seconds that an event may wait for its confirm before it is written down; a broker that is well needs less."""
RETRY_AFTER = 5.0
"""Seconds until a disk that refused is asked again."""

log = structlog.get_logger(__name__)


class _Entry(BaseModel):
    """All that publishing an event needs."""

    routing_key: str
    message_id: str
    headers: dict[str, str]
    body: str

    @classmethod
    def of(cls, message: Outgoing) -> _Entry:
        """What is written down of a message."""
        return cls(
            routing_key=message.routing_key,
            message_id=message.message_id,
            headers=dict(message.headers),
            body=message.body.decode(),
        )

    def outgoing(self) -> Outgoing:
        """The message again."""
        return Outgoing(EVENTS.name, self.routing_key, self.body.encode(), self.message_id, self.headers)


class _Content(BaseModel):
    """A file: the events that were written down together."""

    events: list[_Entry] = Field(min_length=1)


class _File:
    """A file, there while one of its events is wanted."""

    def __init__(self, path: Path, wanted: int) -> None:
        self._path = path
        self._wanted = wanted

    def drop_one(self) -> None:
        self._wanted -= 1
        if self._wanted == 0:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:  # the next life sends it again, which its message id makes harmless
                log.warning("spool_file_not_removed", path=str(self._path), error=str(error))


class Spooled:
    """A message, and the file that keeps it where there is one."""

    def __init__(self, message: Outgoing, file: _File | None = None) -> None:
        self.message = message
        self.since = time.monotonic()
        self.wanted = True
        """Nobody has said `remove` yet."""
        self._file = file

    def remove(self) -> None:
        """The broker has it, or nobody wants it any more. To be called once."""
        self.wanted = False
        if self._file is not None:
            self._file.drop_one()

    @property
    def waits(self) -> bool:
        """Whether it is yet to be written down."""
        return self.wanted and self._file is None

    def lies_in(self, file: _File) -> None:
        """It was written down, and is let go at once where it was removed meanwhile."""
        self._file = file
        if not self.wanted:
            file.drop_one()


class Spool:
    """A folder of files. Events that end together share one: one write and its syncs for all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: deque[Spooled] = deque()
        self._turn = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def keep(self, event: WorkerEvent, headers: Mapping[str, str]) -> Spooled:
        """Have the event written down unless it is removed within GRACE; the caller publishes it meanwhile."""
        message = Outgoing(EVENTS.name, event.kind, encode(event), str(event.message_id), headers)
        spooled = Spooled(message)
        self._waiting.append(spooled)
        if self._writing is None and self._timer is None:
            self._look()
        return spooled

    def hurry(self) -> None:
        """Write down what waits, whether or not it has waited for GRACE: a publication has failed."""
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name="spool")

    async def flush(self) -> bool:
        """Write down now what is wanted and not written yet; False where the disk refused, and it still waits."""
        async with self._turn:
            batch = [spooled for spooled in self._waiting if spooled.wanted]
            try:
                if batch:
                    file = _File(await asyncio.to_thread(self._write, batch), len(batch))
                    for spooled in batch:
                        spooled.lies_in(file)
            except OSError as error:
                log.warning("events_not_spooled", events=len(batch), error=str(error))
                return False
            self._waiting = deque(spooled for spooled in self._waiting if spooled.waits)
            return True

    async def close(self) -> None:
        """Write down what has not been confirmed: the next life sends it."""
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()
        if self._writing is not None:
            await end(self._writing)

    def entries(self) -> Iterator[Spooled]:
        """What was kept and not removed, oldest first. An unreadable file is set aside, with a line in the log."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            try:
                events = _Content.model_validate_json(path.read_bytes()).events
            except ValidationError as error:
                log.warning("spooled_event_unreadable", path=str(path), error=str(error))
                path.rename(path.with_suffix(".unreadable"))
            else:
                file = _File(path, len(events))
                yield from [Spooled(entry.outgoing(), file) for entry in events]

    def _look(self) -> None:
        """Write once the oldest that waits is overdue; until then look again, while any waits."""
        self._timer = None
        while self._waiting and not self._waiting[0].waits:
            self._waiting.popleft()
        if self._waiting:
            wait = self._waiting[0].since + GRACE - time.monotonic()
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._look)
            else:
                self.hurry()

    async def _write_all(self) -> None:
        try:
            while not await self.flush():  # noqa: ASYNC110  # a disk tells nobody that it has room again
                await asyncio.sleep(RETRY_AFTER)
        finally:
            self._writing = None
        self._look()

    def _write(self, batch: Sequence[Spooled]) -> Path:
        """Synced, beside, then renamed, so that a file is whole or not there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{batch[0].message.message_id}.json"
        beside = path.with_suffix(".part")
        content = _Content(events=[_Entry.of(spooled.message) for spooled in batch])
        try:
            with beside.open("w") as file:
                file.write(content.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            self._sync()
        except OSError:
            for half in (beside, path):  # they are written again, perhaps without the one that names the file
                with suppress(OSError):
                    half.unlink()
            raise
        return path

    def _sync(self) -> None:
        """Make the rename itself durable: POSIX promises that only of a folder that is synced too."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
