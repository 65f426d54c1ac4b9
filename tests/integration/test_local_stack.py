"""The local stack: its servers start together, keep their data, and end with their parent process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from infra.settings import IN_PROCESS, Settings
from infra.stack import local
from infra.stack.errors import StackFailed
from infra.stack.local import LocalStack
from infra.stack.postgres import DATABASE, PostgresNode

PARENT = """
import asyncio, sys
from pathlib import Path
from infra.stack.local import LocalStack

async def main():
    async with LocalStack(Path(sys.argv[1]), "in-process") as stack:
        print(stack.postgres.pid, stack.s3.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the module, so that PostgreSQL is initialised once."""
    return tmp_path_factory.mktemp("stack")


async def execute(settings: Settings, statement: str) -> object:
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_describe_names_the_servers(folder: Path) -> None:
    async with LocalStack(folder, "in-process") as stack:
        assert stack.describe()["broker"] == IN_PROCESS
        assert stack.describe()["database"].startswith("postgresql 18")
        assert stack.settings(worker_slots=3).worker_slots == 3


async def test_data_is_kept_after_the_stack_has_stopped(folder: Path) -> None:
    async with LocalStack(folder, "in-process") as stack:
        await execute(stack.settings(), "CREATE TABLE IF NOT EXISTS kept ()")
    async with LocalStack(folder, "in-process") as stack:
        assert await execute(stack.settings(), "SELECT to_regclass('kept')::text") == "kept"


async def test_a_first_start_that_was_interrupted_is_finished_by_the_next(tmp_path: Path) -> None:
    node = PostgresNode(tmp_path / "postgres")
    (tmp_path / "postgres" / "data.unfinished").mkdir(parents=True)
    (tmp_path / "postgres" / "data.unfinished" / "PG_VERSION").write_text("18")
    await node.start()
    connection = await asyncpg.connect(node.dsn("postgres"))
    await connection.execute(f"DROP DATABASE {DATABASE}")
    await connection.close()
    await node.stop()
    await node.start()
    connection = await asyncpg.connect(node.dsn())
    assert await connection.fetchval("SELECT current_database()") == DATABASE
    await connection.close()
    await node.stop()


async def test_a_wrong_password_does_not_open_the_database(folder: Path) -> None:
    async with LocalStack(folder, "in-process") as stack:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(stack.settings().database_url.get_secret_value(), password="guess")


async def test_a_second_stack_in_the_same_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LOCK_TIMEOUT", 0.2)
    async with LocalStack(folder, "in-process"):
        with pytest.raises(StackFailed, match="another local stack"):
            async with LocalStack(folder, "in-process"):
                pass


def test_servers_end_when_their_parent_is_killed(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        servers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    _, alive = psutil.wait_procs(servers, timeout=20)
    assert (len(servers), alive) == (2, [])
