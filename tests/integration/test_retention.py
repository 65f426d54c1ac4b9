"""Retention by the command line, on a real database and object store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from contracts.artifacts import attempt_prefix, log_part
from contracts.tasks import AttemptKey, Phase
from control.store.postgres import PostgresStore
from control.store.values import NewTask
from infra.artifacts import read_manifest, upload
from infra.objects import ObjectStore
from infra.settings import Settings
from tests.build import TASK, completed, failed, key_of, new_task, start
from tests.conformance.stores import change_of


async def test_a_failed_attempt_is_shown_then_deleted_and_the_next_one_stays(
    database_url: str, store_settings: Settings, objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    prefixes = await two_attempts(database_url, objects, tmp_path)
    log = log_part(AttemptKey(task_id=TASK, iteration=1, phase=Phase.OPTIMIZE, attempt=1), 0)
    await objects.put(log, b"why it failed")
    monkeypatch.setenv("TREADLE_DATABASE_URL", database_url)
    monkeypatch.setenv("TREADLE_S3_ENDPOINT", store_settings.s3_endpoint)
    monkeypatch.setenv("TREADLE_S3_BUCKET", store_settings.s3_bucket)
    monkeypatch.setenv("TREADLE_S3_ACCESS_KEY", store_settings.s3_access_key.get_secret_value())
    monkeypatch.setenv("TREADLE_S3_SECRET_KEY", store_settings.s3_secret_key.get_secret_value())
    planned, deleted, repeated = [await retention(*more) for more in (("--dry-run",), (), ())]
    assert [artifact["prefix"] for artifact in planned["artifacts"]] == prefixes[:1]
    assert planned == {**deleted, "dryRun": True}
    assert repeated["artifacts"] == []
    assert await objects.names(prefixes[0]) == []
    assert await objects.names("logs/") == [log]
    assert await read_manifest(objects, prefixes[1]) is not None


async def two_attempts(database_url: str, objects: ObjectStore, folder: Path) -> list[str]:
    """Create a task with a failed and a completed attempt, and return the prefixes of their complete artifacts."""
    store = await PostgresStore.open(database_url, lambda _: 15.0)
    task = new_task()
    await store.create([NewTask(task, "digest", "user")])
    prefixes = []
    for event in (start, failed, completed):
        change = change_of(task, event(task))
        if task.key is not None:
            prefixes.append(attempt_prefix(key_of(task)))
            await upload(objects, prefixes[-1], folder)
        await store.apply([change])
        task = change.after
    await store.close()
    return prefixes


async def retention(*more: str) -> dict[str, object]:
    """Run the command on a thread, because it runs an event loop of its own, and return its output."""
    arguments = ["retention", "--older-than", "0s", "--format", "json", *more]
    answer = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert answer.exit_code == 0, answer.output
    output: dict[str, object] = json.loads(answer.stdout)
    return output
