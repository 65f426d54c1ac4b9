"""Reads the log of a program from its parts in the object store, by places in the whole log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import cast

from contracts.artifacts import log_part_start, log_prefix
from contracts.tasks import AttemptKey
from infra.objects import ObjectNotFound, ObjectStore


@dataclass(frozen=True, slots=True)
class LogPart:
    """One object: the bytes of the log from `start` to `end`."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """Bytes of a log, from `offset` on; the next page begins at `next_offset`.

    Where parts were left out, `data` has a line that says so instead of them.
    """

    offset: int
    next_offset: int
    data: bytes


async def log_parts(objects: ObjectStore, key: AttemptKey) -> list[LogPart]:
    """The parts of an attempt's log, in order; none if it has no log. Raises ObjectStoreUnavailable."""
    sizes = await objects.sizes(f"{log_prefix(key)}/")
    starts = {name: start for name in sizes if (start := log_part_start(name)) is not None}
    return [LogPart(name, start, start + sizes[name]) for name, start in starts.items()]


async def read_page(objects: ObjectStore, parts: Sequence[LogPart], offset: int, limit: int) -> LogPage:
    """At most `limit` bytes of the log from byte `offset` on, besides the lines about what was left out."""
    data, place, left = bytearray(), offset, limit
    for part in parts:
        if part.end <= place:
            continue
        if left <= 0:
            break
        if part.start > place:
            data += _left_out(part.start - place, new_line=bool(data) and not data.endswith(b"\n"))
            place = part.start
        block = await _read(objects, part.name, place - part.start, min(left, part.end - place))
        data += block
        place, left = place + len(block), left - len(block)
    return LogPage(offset, place, bytes(data))


async def read_tail(objects: ObjectStore, parts: Sequence[LogPart], size: int) -> LogPage:
    """The last `size` bytes of the log, without the end of a line at their beginning."""
    offset = max(0, end_of(parts) - size)
    page = await read_page(objects, parts, offset, size)
    if not any(part.start < offset < part.end for part in parts):
        return page
    skipped = page.data.find(b"\n") + 1
    return LogPage(offset + skipped, page.next_offset, page.data[skipped:])


def end_of(parts: Sequence[LogPart]) -> int:
    """The bytes of the whole log so far, those that were left out included."""
    return parts[-1].end if parts else 0


def whole_lines(page: LogPage) -> LogPage:
    """The page up to its last line break, or the page itself if it has none."""
    end = page.data.rfind(b"\n") + 1 or len(page.data)
    return LogPage(page.offset, page.next_offset - (len(page.data) - end), page.data[:end])


async def _read(objects: ObjectStore, name: str, start: int, size: int) -> bytes:
    """At most `size` bytes of an object; none if it was deleted meanwhile."""
    data = bytearray()
    try:
        blocks = await objects.open_stream(name, start)
    except ObjectNotFound:
        return b""
    async with aclosing(cast("AsyncGenerator[bytes, None]", blocks)):
        async for block in blocks:
            data += block
            if len(data) >= size:
                break
    return bytes(data[:size])


def _left_out(size: int, *, new_line: bool) -> bytes:
    return b"\n" * new_line + f"[treadle: {size:,} bytes of this log are left out here]\n".encode()
