"""The log of a program in the object store: parts that only grow, of which the middle ones are deleted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contracts.artifacts import log_part_start, log_prefix
from contracts.tasks import AttemptKey, Phase
from infra.objects import ObjectStore, ObjectStoreUnavailable
from infra.worker import program_log
from infra.worker.program_log import FIRST_PARTS, LAST_PARTS, PART, ProgramLog

KEY = AttemptKey(task_id=UUID(int=1), iteration=1, phase=Phase.TRAIN, attempt=2)
SECRET = b"correct-horse"
KEPT = (FIRST_PARTS + LAST_PARTS) * PART


class Objects:
    """An object store in memory, which can be away or hang."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.puts: list[int] = []
        self.away = 0
        """The number of next calls that fail."""
        self.go = asyncio.Event()
        self.go.set()

    async def put(self, key: str, data: bytes) -> None:
        await self.go.wait()
        if self.away > 0:
            self.away -= 1
            raise ObjectStoreUnavailable("away")
        self.puts.append(len(data))
        self.blobs[key] = data

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.blobs.pop(key)

    @property
    def text(self) -> bytes:
        return b"".join(self.blobs[key] for key in sorted(self.blobs))

    @property
    def places(self) -> dict[int, int]:
        """The start of each part, and its size."""
        return {cast("int", log_part_start(key)): len(data) for key, data in sorted(self.blobs.items())}


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def of(objects: Objects, path: Path) -> ProgramLog:
    return ProgramLog(cast("ObjectStore", objects), KEY, path, {SECRET})


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def lines(size: int) -> bytes:
    """Different lines of 100 bytes."""
    return b"".join(b"%099d\n" % number for number in range(size // 100))


async def test_a_log_is_one_masked_object_under_the_attempts_own_prefix(objects: Objects, path: Path) -> None:
    append(path, b"the key is " + SECRET + b"\nand no end")
    await of(objects, path).finish()
    assert objects.blobs == {f"{log_prefix(KEY)}/{0:015d}.txt": b"the key is ***\nand no end"}


async def test_a_program_without_a_log_or_with_an_empty_one_uploads_nothing(objects: Objects, path: Path) -> None:
    await of(objects, path).finish()
    append(path, b"")
    await of(objects, path).finish()
    assert objects.blobs == {}


async def test_what_a_program_writes_is_uploaded_while_it_runs_and_only_if_there_is_more(
    objects: Objects, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = asyncio.Semaphore(0)

    async def interval(_: float) -> None:
        await rounds.acquire()

    log = of(objects, path)
    monkeypatch.setattr(program_log.asyncio, "sleep", interval)
    following = asyncio.create_task(log.follow())
    append(path, b"one\n")
    for _ in range(3):
        rounds.release()
    while not objects.puts:
        await asyncio.wait({following}, timeout=0.001)
    append(path, b"two\n")
    rounds.release()
    while objects.text != b"one\ntwo\n":
        await asyncio.wait({following}, timeout=0.001)
    following.cancel()
    assert objects.puts == [4, 8]


@given(st.lists(st.integers(0, 300_000), max_size=8), st.booleans())
@examples(max_examples=15, deadline=None)
def test_a_place_in_the_log_never_changes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], fails: bool
) -> None:
    path, objects = tmp_path_factory.mktemp("log") / "log.txt", Objects()

    async def upload() -> None:
        log, before = of(objects, path), b""
        for number, size in enumerate(sizes):
            append(path, lines(10 * size)[number:] + SECRET + b"\n")
            objects.away = int(fails and number % 2 == 0)
            await log._upload(ended=False)
            assert objects.text.startswith(before)
            before = objects.text
        await log.finish()
        assert objects.text == (path.read_bytes() if path.exists() else b"").replace(SECRET, b"***")

    asyncio.run(upload())


async def test_a_part_that_is_full_is_uploaded_once(objects: Objects, path: Path) -> None:
    log = of(objects, path)
    for _ in range(5):
        append(path, lines(PART // 2))
        await log._upload(ended=False)
    assert objects.puts == [PART // 2, PART, PART // 2, PART, PART // 2]


@pytest.mark.parametrize("step", [3 * PART + 7, 50 * PART])
async def test_of_a_large_log_the_beginning_and_the_end_are_kept(objects: Objects, path: Path, step: int) -> None:
    log, written, largest = of(objects, path), lines(50 * PART), 0
    for start in range(0, len(written), step):
        append(path, written[start : start + step])
        await log._upload(ended=False)
        largest = max(largest, len(objects.text))
    await log.finish()
    places = objects.places
    first = sum(size for start, size in places.items() if start < FIRST_PARTS * PART)
    last = len(objects.text) - first
    assert largest <= KEPT
    assert first == FIRST_PARTS * PART
    assert (LAST_PARTS - 1) * PART - 200 <= last <= LAST_PARTS * PART
    assert objects.text == written[:first] + written[-last:]
    assert max(start + size for start, size in places.items()) == len(written)


async def test_what_is_left_out_cuts_no_secret_in_two(objects: Objects, path: Path) -> None:
    cut = LAST_PARTS * PART
    tail = SECRET[-4:] + b" and the rest of the line\n"
    append(path, lines(30 * PART) + SECRET[:-4] + tail + lines(cut)[: cut - len(tail)])
    log = of(objects, path)
    await log.finish()
    assert not any(part in objects.text for part in (SECRET[-4:], b"rest of the line"))


async def test_what_is_left_out_of_one_long_line_cuts_no_secret_in_two(objects: Objects, path: Path) -> None:
    tail = SECRET[-4:] + b" and the rest\n"
    words = b"word " * (LAST_PARTS * PART // 5)
    append(path, lines(30 * PART) + SECRET[:-4] + tail.replace(b"\n", b" ") + words[: LAST_PARTS * PART - len(tail)])
    log = of(objects, path)
    await log.finish()
    assert SECRET[-4:] not in objects.text
    assert b" and the rest" in objects.text


async def test_a_failed_upload_is_a_warning_and_the_rest_is_uploaded_by_the_next_one(
    objects: Objects, path: Path
) -> None:
    append(path, b"one\n")
    log, objects.away = of(objects, path), 1
    with capture_logs() as logs:
        await log._upload(ended=False)
        assert log.behind
        await log.finish()
    assert ([line["event"] for line in logs], objects.text, log.behind) == (
        ["program_log_not_uploaded"],
        b"one\n",
        False,
    )


async def test_a_store_that_is_away_delays_the_end_for_a_bounded_time(
    objects: Objects, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_log, "FINISH_TIMEOUT", 0.05)
    append(path, b"one\n")
    objects.go.clear()
    log = of(objects, path)
    with capture_logs() as logs:
        await asyncio.wait_for(log.finish(), 2)
    assert ([line["event"] for line in logs], log.behind) == (["program_log_not_uploaded"], True)


async def test_a_cancelled_upload_does_not_delay_the_end(objects: Objects, path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(program_log, "UPLOAD_INTERVAL", 0.001)
    append(path, b"one\n")
    objects.go.clear()
    log = of(objects, path)
    following = asyncio.create_task(log.follow())
    while log._uploading is None:
        await asyncio.wait({following}, timeout=0.001)
    following.cancel()
    await asyncio.wait({following}, timeout=2)
    assert following.cancelled()
    objects.go.set()
    await log.finish()
    assert objects.text == b"one\n"


@pytest.mark.parametrize("kind", ["pipe", "link"])
async def test_something_else_in_place_of_the_log_is_not_read(
    objects: Objects, path: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_log, "FINISH_TRIES", 1)
    monkeypatch.setattr(ProgramLog, "_size", lambda _: 7)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        append(tmp_path / "other", b"secret\n")
        os.symlink(tmp_path / "other", path)
    with capture_logs():
        await asyncio.wait_for(of(objects, path).finish(), 5)
    assert objects.blobs == {}
