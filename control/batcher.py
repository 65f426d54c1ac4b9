"""Group commit: what arrives while a batch is under way makes up the next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from control.store.port import StoreUnavailable
from infra.ending import end

T = TypeVar("T")
R = TypeVar("R")

LANES = 2
"""Batches under way at once: one is decided here while the database applies the other."""
WORTH = 64
"""Items that are worth a further batch beside one under way: fewer are cheaper in one, a moment later."""
LATE = 0.05
"""Seconds for which fewer wait for the one under way: it may be held up by a lock or a connection that is gone."""

Flush = Callable[[Sequence[T]], Awaitable[Sequence["R | Exception | None"]]]
"""Handles one batch; an answer each, in order. An exception is raised to its submitter, None: not yet, again."""


@dataclass(slots=True)
class _Waiting(Generic[T, R]):
    item: T
    answer: asyncio.Future[R]


class Batcher(Generic[T, R]):
    """Hands what is submitted to `flush` in batches of at most `size`, with at most one item a `key` in hand.

    The next batch is decided while the database still works on the one before. Small batches begin `pace` seconds
    apart: one after a rest begins at once.
    """

    def __init__(self, flush: Flush[T, R], *, size: int, key: Callable[[T], Hashable], pace: float = 0.0) -> None:
        self._flush = flush
        self._size = size
        self._key = key
        self._pace = pace
        self._next_at = 0.0
        self._late = False
        self._timer: asyncio.TimerHandle | None = None
        self._in_hand: set[Hashable] = set()
        self._waiting: deque[_Waiting[T, R]] = deque()
        self._wake = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to flush."""
        self._running = [asyncio.create_task(self._run(), name="batcher") for _ in range(LANES)]

    async def stop(self) -> None:
        """Stop flushing; those who still wait are cancelled, so that their messages come again."""
        await end(*self._running)
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._waiting:
            waiting.answer.cancel()
        self._waiting.clear()

    async def submit(self, item: T) -> R:
        """The answer of `flush` for this item, once its batch is through."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, answer))
        if self._worth:
            self._wake.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATE, self._look)
        return await answer

    @property
    def _worth(self) -> bool:
        return not self._in_hand or len(self._waiting) >= WORTH or self._late

    def _look(self) -> None:
        self._timer = None
        self._late = True
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._paced()
            batch = self._take() if self._worth else []
            if not batch:
                self._wake.clear()
                continue
            self._next_at = asyncio.get_running_loop().time() + self._pace
            try:
                self._settle(batch, await self._halving(batch))
            except asyncio.CancelledError:
                self._waiting.extendleft(reversed(batch))
                raise
            finally:
                self._in_hand.difference_update(self._key(waiting.item) for waiting in batch)
                self._wake.set()

    async def _paced(self) -> None:
        wait = self._next_at - asyncio.get_running_loop().time()
        if wait > 0 and len(self._waiting) < WORTH:
            await asyncio.sleep(wait)

    def _take(self) -> list[_Waiting[T, R]]:
        self._late = False
        taken: dict[Hashable, _Waiting[T, R]] = {}
        left: deque[_Waiting[T, R]] = deque()
        while self._waiting and len(taken) < self._size:
            waiting = self._waiting.popleft()
            if waiting.answer.cancelled():
                continue
            key = self._key(waiting.item)
            if key in self._in_hand:
                left.append(waiting)
            else:
                self._in_hand.add(key)
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
