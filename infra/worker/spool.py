"""The spool: an event is on disk until the broker has confirmed it, so that a crash in between loses nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, Field, ValidationError

from contracts.events import WorkerEvent
from contracts.topology import EVENTS
from contracts.wire import encode
from infra.bus.port import Outgoing

log = structlog.get_logger(__name__)


class _Entry(BaseModel):
    """All that publishing an event needs."""

    routing_key: str
    message_id: str
    headers: dict[str, str]
    body: str


class _Content(BaseModel):
    """A file: the events that were written down together."""

    events: list[_Entry] = Field(min_length=1)


@dataclass(slots=True)
class _File:
    """A file, there while one of its events is wanted."""

    path: Path
    wanted: int

    def drop_one(self) -> None:
        self.wanted -= 1
        if self.wanted == 0:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Spooled:
    """A message and the file that keeps it."""

    file: _File
    message: Outgoing

    def remove(self) -> None:
        """The broker has it, or nobody wants it any more. To be called once."""
        self.file.drop_one()


class Spool:
    """A folder of files. Events that come while one is being written share the next: one sync for all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[tuple[_Entry, asyncio.Future[Spooled]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def keep(self, event: WorkerEvent, headers: dict[str, str]) -> Spooled:
        """Write the event down; it is on the disk when this returns. Broken off, it is left to the next life."""
        entry = _Entry(
            routing_key=event.kind, message_id=str(event.message_id), headers=headers, body=encode(event).decode()
        )
        kept: asyncio.Future[Spooled] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, kept))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name="spool")
        return await kept

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
                yield from [Spooled(file, _outgoing(entry)) for entry in events]

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                path = await asyncio.to_thread(self._write, [entry for entry, _ in batch])
            except OSError as error:
                _fail([kept for _, kept in batch], error)
                continue
            file = _File(path, len(batch))
            for entry, kept in batch:
                if not kept.done():
                    kept.set_result(Spooled(file, _outgoing(entry)))
        self._writing = None

    def _write(self, entries: Sequence[_Entry]) -> Path:
        """Synced, beside, then renamed, so that a file is whole or not there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{entries[0].message_id}.json"
        beside = path.with_suffix(".part")
        with beside.open("w") as file:
            file.write(_Content(events=list(entries)).model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        self._sync()
        return path

    def _sync(self) -> None:
        """Make the rename itself durable."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _fail(waiting: Sequence[asyncio.Future[Spooled]], error: OSError) -> None:
    for kept in waiting:
        if not kept.done():
            kept.set_exception(error)


def _outgoing(entry: _Entry) -> Outgoing:
    return Outgoing(EVENTS.name, entry.routing_key, entry.body.encode(), entry.message_id, headers=entry.headers)
