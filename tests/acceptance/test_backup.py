"""docs/operations.md, tried: database and object store are backed up while a loop runs, destroyed and restored."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from contracts.tasks import Phase
from infra.settings import Settings
from infra.stack.local import LocalStack
from tests import servers
from tests.acceptance.backups import Programs, copy_store, dump_database, loop_on, restore_database

ITERATIONS = 4


async def destroyed(settings: Settings, folder: Path) -> Settings:
    """Empty the database and the bucket, and drop every message; return settings of a worker on another machine."""
    server, _, name = settings.database_url.get_secret_value().rpartition("/")
    connection = await asyncpg.connect(f"{server}/postgres")
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    (empty := folder / "empty").mkdir()
    await copy_store(str(empty), "s3:", settings)
    await servers.purge(settings.bus_url.get_secret_value())
    return settings.model_copy(update={"work_dir": folder / "another machine"})


async def restored_from(dump: Path, copy: Path, settings: Settings) -> None:
    await restore_database(settings.database_url.get_secret_value(), dump)
    await copy_store(str(copy), "s3:", settings)


def results_in(copy: Path) -> set[str]:
    """The prefixes of the attempts whose results are complete in a copy of the store."""
    return {path.parent.relative_to(copy).as_posix() for path in copy.rglob("a*/_MANIFEST.json")}


def versions(events: list[dict[str, object]]) -> list[object]:
    return [event["version"] for event in events if event["outcome"] == "applied"]


async def test_a_loop_that_is_restored_from_dump_and_copy_goes_on_to_its_end(
    settings: Settings, tmp_path: Path
) -> None:
    dump, copy = tmp_path / "treadle.dump", tmp_path / "store"
    async with loop_on(settings, Programs(held=(2, Phase.TRAIN))) as loop:
        task = await loop.submit("continuous", maxIterations=ITERATIONS)
        await loop.begun(task, 2, Phase.TRAIN)
        waiting = await loop.submit("standard")
        await loop.only_the_broker_has_the_command(waiting)
        await dump_database(settings.database_url.get_secret_value(), dump)
        loop.programs.go.set()
        await loop.begun(task, 3, Phase.TRAIN)
        await copy_store("s3:", str(copy), settings)
    stored = results_in(copy)

    restored = await destroyed(settings, tmp_path)
    await restored_from(dump, copy, restored)
    programs = Programs()
    async with loop_on(restored, programs) as loop:
        lost = await loop.incomplete()
        ends = [await loop.ended(each) for each in (task, waiting)]
        events = await loop.events(task)
        later = await loop.incomplete()

    assert (lost, later) == ([], [])
    assert f"models/{task}/2/a1" in stored, "the copy is newer than the dump"
    assert [(end.status, end.reason) for end in ends] == [
        ("COMPLETED", "max_iterations"),
        ("COMPLETED", "once_through"),
    ]
    assert all(after == before + 1 for before, after in pairwise(versions(events)))  # type: ignore[operator]
    assert set(programs.ran) & stored == set(), "what the copy has is adopted, not computed again"


async def test_a_copy_of_the_store_that_is_older_than_the_dump_is_noticed_and_a_newer_one_mends_it(
    settings: Settings, tmp_path: Path
) -> None:
    dump, older, newer = tmp_path / "treadle.dump", tmp_path / "older", tmp_path / "newer"
    older.mkdir()
    async with loop_on(settings, Programs(held=(1, Phase.EVALUATE))) as loop:
        await copy_store("s3:", str(older), settings)
        task = await loop.submit("continuous", maxIterations=ITERATIONS)
        await loop.begun(task, 1, Phase.EVALUATE)
        await dump_database(settings.database_url.get_secret_value(), dump)
        await copy_store("s3:", str(newer), settings)

    restored = await destroyed(settings, tmp_path)
    await restored_from(dump, older, restored)
    async with loop_on(restored, Programs()) as loop:
        lost = await loop.incomplete()
        failed = await loop.ended(task)
        await copy_store(str(newer), "s3:", restored)
        await loop.running.http.post(f"/api/tasks/{task}/retry")
        end = await loop.ended(task)

    assert sorted(artifact.prefix.partition("/")[0] for artifact in lost) == ["datasets", "models", "optimized"]
    assert (failed.status, failed.reason) == ("FAILED", "bad_input")
    assert failed.message is not None
    assert "has no manifest: it was never completed, or has been removed" in failed.message
    assert (end.status, end.reason) == ("COMPLETED", "max_iterations")


def move(folder: Path, to: Path, archive: Path) -> None:
    """Pack the folder of a stack, delete it, and unpack it elsewhere."""
    subprocess.run(["tar", "-C", str(folder), "-czf", str(archive), "."], check=True)
    shutil.rmtree(folder)
    to.mkdir(mode=0o700)
    subprocess.run(["tar", "-C", str(to), "-xpzf", str(archive)], check=True)


async def test_the_folder_of_a_stack_that_is_packed_and_unpacked_elsewhere_goes_on(tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="treadle-test-backup-") as place:
        first, second = Path(place) / "up", Path(place) / "elsewhere"
        programs = Programs(held=(2, Phase.TRAIN))
        async with LocalStack(first, "in-process") as stack, loop_on(stack.settings(), programs) as loop:
            task = await loop.submit("continuous", maxIterations=ITERATIONS)
            await loop.begun(task, 2, Phase.TRAIN)
        await asyncio.to_thread(move, first, second, tmp_path / "up.tar.gz")
        async with LocalStack(second, "in-process") as stack, loop_on(stack.settings(), Programs()) as loop:
            lost = await loop.incomplete()
            end = await loop.ended(task)

    assert (lost, end.status, end.reason) == ([], "COMPLETED", "max_iterations")
