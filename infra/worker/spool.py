"""The spool: an event is on disk until the broker has confirmed it, so that a crash in between loses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError

from contracts.events import WorkerEvent
from contracts.topology import EVENTS
from contracts.wire import encode
from infra.bus.port import Outgoing

log = structlog.get_logger(__name__)


class _Entry(BaseModel):
    """The file's content: all that publishing needs."""

    routing_key: str
    message_id: str
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Spooled:
    """A message and the file that keeps it."""

    path: Path
    message: Outgoing

    def remove(self) -> None:
        """The broker has it, or nobody wants it any more."""
        self.path.unlink(missing_ok=True)


class Spool:
    """A folder with one file an event."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, event: WorkerEvent, headers: dict[str, str]) -> Spooled:
        """Write the event down: synced, beside, then renamed, so that a file is whole or not there."""
        entry = _Entry(
            routing_key=event.kind, message_id=str(event.message_id), headers=headers, body=encode(event).decode()
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{event.message_id}.json"
        beside = path.with_suffix(".part")
        with beside.open("w") as file:
            file.write(entry.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        self._sync()
        return Spooled(path, _outgoing(entry))

    def entries(self) -> Iterator[Spooled]:
        """What was kept and not removed, oldest first. An unreadable file is set aside, with a line in the log."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            try:
                entry = _Entry.model_validate_json(path.read_bytes())
            except ValidationError as error:
                log.warning("spooled_event_unreadable", path=str(path), error=str(error))
                path.rename(path.with_suffix(".unreadable"))
            else:
                yield Spooled(path, _outgoing(entry))

    def _sync(self) -> None:
        """Make the rename itself durable."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _outgoing(entry: _Entry) -> Outgoing:
    return Outgoing(EVENTS.name, entry.routing_key, entry.body.encode(), entry.message_id, headers=entry.headers)
