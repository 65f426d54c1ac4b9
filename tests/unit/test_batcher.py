"""Group commit: the batches, their answers, and the items that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from control.apply.batcher import Batcher, Flush
from control.store.port import StoreUnavailable


def first_letter(item: str) -> str:
    return item[0]


@asynccontextmanager
async def batching(flush: Flush[str, str], size: int = 100) -> AsyncIterator[Batcher[str, str]]:
    """A running batcher."""
    batcher: Batcher[str, str] = Batcher("test", flush, size=size, key=first_letter)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


class Recorder:
    """A flush that returns its items in upper case and records every batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def __call__(self, items: Sequence[str]) -> list[str | Exception | None]:
        self.batches.append(list(items))
        return [item.upper() for item in items]


async def test_items_that_wait_together_are_flushed_together() -> None:
    flush = Recorder()
    async with batching(flush) as batcher:
        answers = await asyncio.gather(*(batcher.submit(item) for item in "abc"))
    assert (answers, flush.batches) == (["A", "B", "C"], [["a", "b", "c"]])


async def test_items_of_one_key_never_share_a_batch_and_keep_their_order() -> None:
    flush = Recorder()
    async with batching(flush) as batcher:
        await asyncio.gather(*(batcher.submit(item) for item in ("a1", "b", "a2", "a3")))
    assert flush.batches == [["a1", "b"], ["a2"], ["a3"]]


async def test_a_batch_holds_at_most_its_size() -> None:
    flush = Recorder()
    async with batching(flush, size=2) as batcher:
        await asyncio.gather(*(batcher.submit(item) for item in "abcde"))
    assert flush.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_an_item_that_is_not_through_yet_is_flushed_again() -> None:
    calls = 0

    async def flush(items: Sequence[str]) -> list[str | Exception | None]:
        nonlocal calls
        calls += 1
        return [None if calls == 1 else item for item in items]

    async with batching(flush) as batcher:
        assert await batcher.submit("a") == "a"
    assert calls == 2


async def test_an_error_for_one_item_is_raised_to_its_submitter_alone() -> None:
    async def flush(items: Sequence[str]) -> list[str | Exception | None]:
        return [KeyError("b") if item == "b" else item for item in items]

    async with batching(flush) as batcher:
        answers = await asyncio.gather(*(batcher.submit(item) for item in "abc"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, KeyError, str]


async def test_a_batch_that_fails_is_halved_until_the_failing_item_is_alone() -> None:
    async def flush(items: Sequence[str]) -> list[str | Exception | None]:
        if "c" in items:
            raise ValueError("c is poison")
        return list(items)

    async with batching(flush) as batcher:
        answers = await asyncio.gather(*(batcher.submit(item) for item in "abcd"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [str, str, ValueError, str]


async def test_an_unavailable_store_is_called_once_per_batch() -> None:
    calls = 0

    async def flush(items: Sequence[str]) -> list[str | Exception | None]:
        nonlocal calls
        calls += 1
        raise StoreUnavailable("away")

    async with batching(flush) as batcher:
        await asyncio.gather(*(batcher.submit(item) for item in "abcd"), return_exceptions=True)
    assert calls == 1


async def test_what_waits_at_the_end_is_cancelled() -> None:
    async def never_return(items: Sequence[str]) -> list[str | Exception | None]:
        await asyncio.Event().wait()
        return []

    async with batching(never_return) as batcher:
        waiting = asyncio.create_task(batcher.submit("a"))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_is_submitted_meanwhile_makes_up_the_next_batch() -> None:
    batches: list[list[str]] = []
    started, go_on = asyncio.Event(), asyncio.Event()

    async def flush(items: Sequence[str]) -> list[str | Exception | None]:
        batches.append(list(items))
        started.set()
        await go_on.wait()
        return list(items)

    async with batching(flush) as batcher, asyncio.TaskGroup() as submitting:
        submitting.create_task(batcher.submit("a"))
        await started.wait()
        for item in "bcd":
            submitting.create_task(batcher.submit(item))
        await asyncio.sleep(0)
        batches_before = list(batches)
        go_on.set()
    assert (batches_before, batches) == ([["a"]], [["a"], ["b", "c", "d"]])


async def test_an_item_whose_key_failed_alone_is_tried_again_without_others() -> None:
    flush = Recorder()

    async def poisoned(items: Sequence[str]) -> list[str | Exception | None]:
        answers = await flush(items)
        if any(item.startswith("p") for item in items):
            raise ValueError("poison")
        return answers

    async with batching(poisoned) as batcher:
        with pytest.raises(ValueError, match="poison"):
            await batcher.submit("p1")
        flush.batches.clear()
        await asyncio.gather(*(batcher.submit(item) for item in ("a", "p2", "b")), return_exceptions=True)
    assert flush.batches == [["a", "b"], ["p2"]]


async def test_an_item_that_fails_alone_leaves_the_next_batch_together() -> None:
    flush = Recorder()

    async def poisoned(items: Sequence[str]) -> list[str | Exception | None]:
        answers = await flush(items)
        if any(item.startswith("p") for item in items):
            raise ValueError("poison")
        return answers

    async with batching(poisoned) as batcher:
        await asyncio.gather(batcher.submit("p1"), return_exceptions=True)
        flush.batches.clear()
        await asyncio.gather(*(batcher.submit(item) for item in ("p2", "a", "b")), return_exceptions=True)
    assert flush.batches == [["p2"], ["a", "b"]]
