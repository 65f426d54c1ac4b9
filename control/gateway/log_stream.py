"""Follows the log of a running attempt as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from contracts.http import LogChunk, LogEnd
from contracts.tasks import AttemptKey
from control.gateway.log_files import end_of, log_parts, read_page, whole_lines
from control.machine.machine import AttemptState

if TYPE_CHECKING:
    from control.gateway.parts import GatewayParts
    from control.store.port import Store
    from control.store.values import AttemptRecord

POLL_INTERVAL = 5.0
"""Seconds between two looks at the object store; the end of the attempt wakes a stream."""
PING_INTERVAL = 15.0
"""Seconds without an event after which a comment is sent."""
RECONNECT_MILLISECONDS = 2000
CHUNK = 64 * 1024
"""Bytes of one event."""
LATE_UPLOAD = 25.0
"""Seconds in which a worker stops the program of an attempt that control has ended, and uploads the rest."""
ENDED_BY_CONTROL = frozenset({AttemptState.FENCED, AttemptState.CANCELLED, AttemptState.LOST})


async def is_complete(store: Store, attempt: AttemptRecord) -> bool:
    """Whether nothing more is uploaded of an attempt's log."""
    if attempt.ended_at is None:
        return False
    if attempt.claimed_at is None or attempt.state not in ENDED_BY_CONTROL:
        return True
    return (await store.now() - attempt.ended_at).total_seconds() > LATE_UPLOAD


async def follow(parts: GatewayParts, key: AttemptKey, offset: int) -> AsyncIterator[bytes]:
    """Send the log from byte `offset` on, as events `log` whose id is the next byte, then `end` with the attempt."""
    look_at = ping_at = time.monotonic()
    with parts.progress_hub.watch(key.task_id) as watch:
        while not watch.closed:
            attempt = await parts.store.attempt(key)
            complete = attempt is None or await is_complete(parts.store, attempt)
            if complete or time.monotonic() >= look_at:
                async for chunk in _chunks(parts, key, offset):
                    offset, ping_at = chunk.next_offset, time.monotonic() + PING_INTERVAL
                    yield _event("log", chunk, str(offset))
                look_at = time.monotonic() + POLL_INTERVAL
            if complete:
                yield _event("end", LogEnd(status=attempt.state.value if attempt else "unknown"), str(offset))
                return
            if time.monotonic() >= ping_at:
                ping_at = time.monotonic() + PING_INTERVAL
                yield KEEPALIVE_COMMENT
            await watch.changed(POLL_INTERVAL)


async def _chunks(parts: GatewayParts, key: AttemptKey, offset: int) -> AsyncIterator[LogChunk]:
    """What the log has from byte `offset` on, in pieces that end with a line if they can."""
    stored = await log_parts(parts.objects, key)
    while offset < end_of(stored):
        page = await read_page(parts.objects, stored, offset, CHUNK)
        if page.next_offset == offset:
            return
        if page.next_offset < end_of(stored):
            page = whole_lines(page)
        offset = page.next_offset
        text = page.data.decode(errors="backslashreplace")
        yield LogChunk(offset=page.offset, next_offset=offset, text=text)
        await asyncio.sleep(0)


def _event(kind: str, data: LogChunk | LogEnd, place: str) -> bytes:
    body = data.model_dump_json(by_alias=True)
    return format_sse_event(data_str=body, event=kind, id=place, retry=RECONNECT_MILLISECONDS)
