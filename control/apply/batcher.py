"""Group commit: items that arrive while a batch is being flushed form the next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from control.loops import Supervised
from control.store.port import StoreUnavailable

T = TypeVar("T")
R = TypeVar("R")

Flush = Callable[[Sequence[T]], Awaitable[Sequence["R | Exception | None"]]]
"""Handles one batch and returns one answer for each item, in order. An exception is raised to the item's submitter;
None puts the item into the next batch."""


SUSPECT_TIME = 15.0
"""Seconds for which an item is flushed alone after one with its key failed: a retry must not fail other items."""
MAX_SUSPECTS = 10_000
"""Keys that are remembered; above this number the oldest is forgotten."""


@dataclass(slots=True)
class _PendingItem(Generic[T, R]):
    item: T
    answer: asyncio.Future[R]


class Batcher(Generic[T, R]):
    """Passes items to `flush`, one batch at a time: at most `size` items, and one for each `key`."""

    def __init__(self, name: str, flush: Flush[T, R], *, size: int, key: Callable[[T], Hashable]) -> None:
        self._flush = flush
        self._size = size
        self._key = key
        self._pending: deque[_PendingItem[T, R]] = deque()
        self._suspects: dict[Hashable, float] = {}
        """Keys of items that failed alone, with the time until which they are flushed alone."""
        self._wake = asyncio.Event()
        self._loop = Supervised(name, self._run)
        self.tasks = (self._loop,)

    def start(self) -> None:
        """Start to flush."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop; pending calls of `submit` are cancelled, so that their messages are delivered again."""
        await self._loop.stop()
        for pending in self._pending:
            pending.answer.cancel()
        self._pending.clear()

    async def submit(self, item: T) -> R:
        """The answer of `flush` for this item. Raises the exception that `flush` returned or raised for it."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._pending.append(_PendingItem(item, answer))
        self._wake.set()
        return await answer

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._take()
            if not batch:
                self._wake.clear()
                continue
            try:
                self._resolve(batch, await self._flush_or_split(batch))
            except BaseException:
                self._pending.extendleft(reversed(batch))
                raise

    def _take(self) -> list[_PendingItem[T, R]]:
        batch: dict[Hashable, _PendingItem[T, R]] = {}
        skipped: deque[_PendingItem[T, R]] = deque()
        while self._pending and len(batch) < self._size:
            pending = self._pending.popleft()
            if pending.answer.cancelled():
                continue
            key = self._key(pending.item)
            suspect = self._suspects.get(key, 0.0) > _now()
            if key in batch or (batch and suspect):
                skipped.append(pending)
                continue
            batch[key] = pending
            if suspect:
                break
        self._pending.extendleft(reversed(skipped))
        return list(batch.values())

    async def _flush_or_split(self, batch: Sequence[_PendingItem[T, R]]) -> Sequence[R | Exception | None]:
        """Flush; a batch that fails is halved until each failing item is alone and gets its own error."""
        try:
            return await self._flush([pending.item for pending in batch])
        except StoreUnavailable as error:
            return [error] * len(batch)
        except Exception as error:  # noqa: BLE001  # raised to the submitter of the item
            if len(batch) == 1:
                self._suspect(self._key(batch[0].item))
                return [error]
        middle = len(batch) // 2
        return [*await self._flush_or_split(batch[:middle]), *await self._flush_or_split(batch[middle:])]

    def _suspect(self, key: Hashable) -> None:
        self._suspects.pop(key, None)
        self._suspects[key] = _now() + SUSPECT_TIME
        if len(self._suspects) > MAX_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def _resolve(self, batch: Sequence[_PendingItem[T, R]], answers: Sequence[R | Exception | None]) -> None:
        undecided = []
        for pending, answer in zip(batch, answers, strict=True):
            if answer is None:
                undecided.append(pending)
            elif pending.answer.done():
                continue
            elif isinstance(answer, Exception):
                pending.answer.set_exception(answer)
            else:
                pending.answer.set_result(answer)
        self._pending.extendleft(reversed(undecided))


def _now() -> float:
    return asyncio.get_running_loop().time()
