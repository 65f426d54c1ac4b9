"""The spool: an SQLite file that stores each event from before it is published until the broker has confirmed it.

The events survive a killed process. A power loss may lose the last events; then the reaper adopts a completed result
from its manifest, and any other attempt is retried when its lease expires.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import structlog

from contracts.errors import TreadleError, UndecodableMessage
from contracts.events import WorkerEvent
from contracts.permissions import routing_key_of
from contracts.topology import EVENTS
from contracts.wire import decode, encode
from infra.bus.port import Bus, OutgoingMessage, PublishFailed
from infra.retry import retry

MAX_RETRY_PAUSE = 5.0
"""Seconds."""
SETUP_SCRIPT = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, routing_key TEXT NOT NULL, message_id TEXT NOT NULL, headers TEXT NOT NULL,
    body BLOB NOT NULL
);
"""
INSERT = "INSERT INTO events (routing_key, message_id, headers, body) VALUES (?, ?, ?, ?)"
SELECT = "SELECT id, routing_key, message_id, headers, body FROM events ORDER BY id"
DELETE = "DELETE FROM events WHERE id = ?"
EVENT_TYPES: tuple[type[Any], ...] = get_args(WorkerEvent)

log = structlog.get_logger(__name__)


class SpoolUnreadable(TreadleError):
    """SQLite cannot read the file; its events are kept for the next start of a worker."""


class Spooled:
    """The message of an event, and its row in the spool."""

    def __init__(self, spool: Spool, message: OutgoingMessage, row: int | None) -> None:
        self.message = message
        self._spool = spool
        self._row = row

    def remove(self) -> None:
        """Delete the event, because the broker has confirmed it or control has ended the attempt."""
        if self._row is not None:
            self._spool.delete(self._row)


class Spool:
    """The events of one worker that the broker has not confirmed.

    Calls are synchronous but short: they wait for the disk only when SQLite moves its write-ahead log into the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: sqlite3.Connection | None = None

    def keep(self, event: WorkerEvent, headers: Mapping[str, str]) -> Spooled:
        """Store an event; an SQLite error is only logged, because the caller publishes the event anyway."""
        message = OutgoingMessage(EVENTS.name, routing_key_of(event), encode(event), str(event.message_id), headers)
        values = (message.routing_key, message.message_id, json.dumps(dict(headers)), message.body)
        try:
            row = self._connection().execute(INSERT, values).lastrowid
        except sqlite3.Error as error:
            log.warning("event_not_spooled", message_id=message.message_id, error=str(error))
            row = None
        return Spooled(self, message, row)

    def delete(self, row: int) -> None:
        """Delete an event; if that fails, the next process publishes it again, with the same message id."""
        try:
            self._connection().execute(DELETE, (row,))
        except sqlite3.Error as error:
            log.warning("spooled_event_not_deleted", error=str(error))

    def entries(self) -> list[Spooled]:
        """The stored events, oldest first. Raises SpoolUnreadable if SQLite cannot read the file now.

        A damaged file is logged and renamed to `*.damaged`.
        """
        if not self._path.exists():
            return []
        try:
            rows = self._connection().execute(SELECT).fetchall()
        except sqlite3.OperationalError as error:
            raise SpoolUnreadable(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            return []
        return [
            Spooled(self, OutgoingMessage(EVENTS.name, _key(body, stored), body, message_id, json.loads(headers)), row)
            for row, stored, message_id, headers, body in rows
        ]

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                connection.executescript(SETUP_SCRIPT)
            except sqlite3.Error:
                connection.close()
                raise
            self._open = connection
        return self._open

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_suffix(".damaged")
        log.warning("spool_damaged", set_aside=str(aside), error=str(error))
        self.close()
        self._path.replace(aside)


def _key(body: bytes, stored: str) -> str:
    """The routing key of a stored event; an earlier version stored one with which a worker's account may not publish.

    The broker would close the channel of all events at each try.
    """
    try:
        return routing_key_of(decode(body, *EVENT_TYPES))
    except UndecodableMessage:
        return stored


async def publish_until_confirmed(bus: Bus, message: OutgoingMessage) -> None:
    """Publish a message, with retries until the broker confirms."""
    await retry(partial(bus.publish, message), PublishFailed, max_pause=MAX_RETRY_PAUSE)
