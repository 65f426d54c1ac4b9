"""The spool: an event is on disk before it is published, and until the broker has confirmed it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError

from contracts.events import WorkerEvent
from contracts.topology import EVENTS
from contracts.wire import encode
from infra.bus.port import Outgoing
from infra.ending import seen_through

log = structlog.get_logger(__name__)


class _Content(BaseModel):
    """A file: all that publishing an event needs."""

    routing_key: str
    message_id: str
    headers: dict[str, str]
    body: str


class Spooled:
    """An event's message, and the file that keeps it."""

    def __init__(self, message: Outgoing, path: Path) -> None:
        self.message = message
        self._path = path

    async def write(self) -> None:
        """Write the file. A disk that refuses is logged: the event is published all the same."""
        try:
            await seen_through(asyncio.to_thread(self._write))
        except OSError as error:
            log.warning("event_not_spooled", message_id=self.message.message_id, error=str(error))

    def remove(self) -> None:
        """Remove the file: the broker has the event, or control does not want it."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:  # the next life of this worker sends it again, which its message id makes harmless
            log.warning("spool_file_not_removed", path=str(self._path), error=str(error))

    def _write(self) -> None:
        """Write a file beside, sync it, rename it, and sync the folder: it is whole or it is not there."""
        message = self.message
        content = _Content(
            routing_key=message.routing_key,
            message_id=message.message_id,
            headers=dict(message.headers),
            body=message.body.decode(),
        )
        beside = self._path.with_suffix(".part")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("w") as file:
                file.write(content.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            _sync(self._path.parent)
        except OSError:
            for half in (beside, self._path):
                with suppress(OSError):
                    half.unlink()
            raise


class Spool:
    """A folder with a file for each event that the broker has not confirmed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entry(self, event: WorkerEvent, headers: Mapping[str, str]) -> Spooled:
        """The event as a message, with its place in the folder; nothing is written yet."""
        message = Outgoing(EVENTS.name, event.kind, encode(event), str(event.message_id), headers)
        return Spooled(message, self._folder / f"{message.message_id}.json")

    def entries(self) -> Iterator[Spooled]:
        """What was written and not removed, oldest first. An unreadable file is set aside, with a line in the log."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            try:
                content = _Content.model_validate_json(path.read_bytes())
            except ValidationError as error:
                log.warning("spooled_event_unreadable", path=str(path), error=str(error))
                path.rename(path.with_suffix(".unreadable"))
            else:
                body = content.body.encode()
                yield Spooled(
                    Outgoing(EVENTS.name, content.routing_key, body, content.message_id, content.headers), path
                )


def _sync(folder: Path) -> None:
    """Make a rename durable: POSIX promises that only of a folder that is synced too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
