"""Group commit: what arrives while a batch is under way makes up the next batch."""

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
"""Handles one batch and returns an answer for each item, in order. An exception is raised to the item's submitter;
None puts the item into the next batch."""


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    item: T
    answer: asyncio.Future[R]


class Batcher(Generic[T, R]):
    """Hands what is submitted to `flush`, one batch at a time: at most `size` items, and one of each `key`."""

    def __init__(self, name: str, flush: Flush[T, R], *, size: int, key: Callable[[T], Hashable]) -> None:
        self._flush = flush
        self._size = size
        self._key = key
        self._waiting: deque[_Waiting[T, R]] = deque()
        self._wake = asyncio.Event()
        self._loop = Supervised(name, self._run)
        self.tasks = (self._loop,)

    def start(self) -> None:
        """Begin to flush."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop flushing; those who still wait are cancelled, so that their messages come again."""
        await self._loop.stop()
        for waiting in self._waiting:
            waiting.answer.cancel()
        self._waiting.clear()

    async def submit(self, item: T) -> R:
        """The answer of `flush` for this item, once its batch is through."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, answer))
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
                self._settle(batch, await self._halving(batch))
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                raise

    def _take(self) -> list[_Waiting[T, R]]:
        taken: dict[Hashable, _Waiting[T, R]] = {}
        left: deque[_Waiting[T, R]] = deque()
        while self._waiting and len(taken) < self._size:
            waiting = self._waiting.popleft()
            if waiting.answer.cancelled():
                continue
            key = self._key(waiting.item)
            if key in taken:
                left.append(waiting)
            else:
                taken[key] = waiting
        self._waiting.extendleft(reversed(left))
        return list(taken.values())

    async def _halving(self, batch: Sequence[_Waiting[T, R]]) -> Sequence[R | Exception | None]:
        """Flush; a batch that fails is halved until the one item that fails is alone with its error."""
        try:
            return await self._flush([waiting.item for waiting in batch])
        except StoreUnavailable as error:
            return [error] * len(batch)
        except Exception as error:  # noqa: BLE001  # handed to its submitter, who must decide
            if len(batch) == 1:
                return [error]
        middle = len(batch) // 2
        return [*await self._halving(batch[:middle]), *await self._halving(batch[middle:])]

    def _settle(self, batch: Sequence[_Waiting[T, R]], answers: Sequence[R | Exception | None]) -> None:
        again = []
        for waiting, answer in zip(batch, answers, strict=True):
            if answer is None:
                again.append(waiting)
            elif waiting.answer.done():
                continue
            elif isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
        self._waiting.extendleft(reversed(again))
