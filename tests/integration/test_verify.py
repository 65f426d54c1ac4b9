"""`treadle verify` lists what the database refers to and the object store lacks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from contracts.artifacts import MANIFEST, attempt_prefix
from control.store.postgres import PostgresStore
from control.store.values import Dataset, NewTask
from infra.artifacts import upload
from infra.objects import ObjectStore
from infra.settings import Settings
from tests.acceptance.processes import environment
from tests.build import completed, key_of, new_task, start
from tests.conformance.stores import change_of


@pytest.fixture
async def stored(database_url: str, objects: ObjectStore, tmp_path: Path) -> dict[str, str]:
    """A task with two completed phases, and a dataset that no task uses; all of their artifacts are complete."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.jsonl").write_text("{}\n")
    store = await PostgresStore.open(database_url, lambda _: 15.0)
    task = new_task()
    await store.create([NewTask(task, "digest", "user")])
    prefixes = {"given": task.spec.datasets.train.prefix, "spare": "datasets/1/spare"}
    for event in (start, completed, completed):
        change = change_of(task, event(task))
        if task.key is not None:
            prefixes[task.key.phase] = attempt_prefix(key_of(task))
        await store.apply([change])
        task = change.after
    for prefix in prefixes.values():
        await upload(objects, prefix, tmp_path / "out")
    now = await store.now()
    await store.add_dataset(Dataset("spare", "n", prefixes["spare"], 1, None, "t", None, 1, False, None, now))
    await store.close()
    return prefixes


async def verify(settings: Settings, database_url: str, *more: str) -> tuple[int, Any]:
    """The exit status and the output of the command, which runs an event loop of its own."""
    variables = environment(settings, database_url=database_url)
    result = await asyncio.to_thread(CliRunner().invoke, app, ["verify", *more], env=variables)
    return result.exit_code, json.loads(result.stdout) if more else result.output


JSON = ("--format", "json")


async def test_complete_artifacts_are_counted(
    store_settings: Settings, database_url: str, stored: dict[str, str]
) -> None:
    assert await verify(store_settings, database_url, *JSON) == (0, {"artifacts": len(stored), "incomplete": []})


@pytest.mark.parametrize("which", ["given", "spare", "optimize", "train"])
async def test_an_artifact_without_its_manifest_is_listed_with_what_refers_to_it(
    store_settings: Settings, database_url: str, stored: dict[str, str], objects: ObjectStore, which: str
) -> None:
    await objects.delete([f"{stored[which]}/{MANIFEST}"])
    status, verified = await verify(store_settings, database_url, *JSON)
    (missing,) = verified["incomplete"]

    assert (status, missing["prefix"]) == (1, stored[which])
    assert missing["problem"] == "it has no _MANIFEST.json, and 1 other objects"
    assert missing["referrer"].startswith("dataset spare" if which == "spare" else "task ")


@pytest.mark.parametrize(("content", "found"), [(None, "nothing found"), (b"longer", "6 bytes found")])
async def test_an_artifact_whose_files_differ_from_its_manifest_is_listed(
    store_settings: Settings,
    database_url: str,
    stored: dict[str, str],
    objects: ObjectStore,
    content: bytes | None,
    found: str,
) -> None:
    key = f"{stored['train']}/train.jsonl"
    await (objects.delete([key]) if content is None else objects.put(key, content))
    status, output = await verify(store_settings, database_url)

    assert status == 1
    assert found in " ".join(output.split())
    assert f"1 of {len(stored)} artifacts are missing or incomplete" in output
