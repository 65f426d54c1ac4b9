"""The folder of a worker belongs to one running worker; the files of a dead worker are taken over."""

import os
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from contracts.tasks import AttemptKey, Phase
from infra.settings import Settings
from infra.worker import folders
from infra.worker.folders import KEPT_JOBS, FolderInUse, WorkerFolder


@pytest.fixture
def folder(tmp_path: Path) -> WorkerFolder:
    return WorkerFolder(tmp_path / "w1")


def key() -> AttemptKey:
    return AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)


def test_a_folder_has_one_worker(folder: WorkerFolder) -> None:
    assert folder.lock()
    assert not WorkerFolder(folder.path).lock()
    folder.unlock()


def test_a_folder_is_free_again_after_its_worker(folder: WorkerFolder) -> None:
    folder.lock()
    folder.unlock()
    assert WorkerFolder(folder.path).lock()


def test_what_children_of_an_earlier_worker_left_is_deleted(folder: WorkerFolder) -> None:
    (folder.path / "child-1.tmp" / "torchinductor_root").mkdir(parents=True)
    (folder.path / "child-1.log").touch()
    folder.lock()
    assert list(folder.path.glob("child-*")) == []
    folder.unlock()


async def test_a_second_worker_of_the_same_name_is_refused(
    folder: WorkerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "LOCK_TIMEOUT", folders.RETRY_AFTER)
    folder.lock()
    with pytest.raises(FolderInUse, match="TREADLE_WORKER_ID"):
        await WorkerFolder(folder.path).take()
    folder.unlock()


async def test_the_folder_of_a_dead_worker_is_an_orphan_and_that_of_a_running_worker_is_not(
    folder: WorkerFolder, tmp_path: Path
) -> None:
    alive, dead = WorkerFolder(tmp_path / "alive"), WorkerFolder(tmp_path / "dead")
    for other in (folder, alive, dead):
        other.lock()
    dead.unlock()
    assert [orphan.path async for orphan in folder.orphans()] == [dead.path]
    folder.unlock()
    alive.unlock()


def test_the_jobs_of_an_orphan_are_inherited_and_its_folder_goes(folder: WorkerFolder, tmp_path: Path) -> None:
    dead = WorkerFolder(tmp_path / "dead")
    dead.lock()
    attempt = key()
    (dead.job(attempt) / "log.txt").write_text("boom")
    folder.lock()
    folder.inherit(dead)
    assert (folder.job_path(attempt) / "log.txt").read_text() == "boom"
    assert not dead.path.exists()
    folder.unlock()


def test_only_the_newest_job_folders_are_kept_beside_the_active_ones(folder: WorkerFolder) -> None:
    active, *others = [folder.job(key()) for _ in range(KEPT_JOBS + 3)]
    for age, job in enumerate([active, *others]):
        os.utime(job, (age, age))
    folder.prune({active})
    assert {path for path in others if path.exists()} == set(others[-KEPT_JOBS:])
    assert active.exists()


def test_a_job_folder_that_disappears_meanwhile_does_not_stop_the_pruning(folder: WorkerFolder) -> None:
    jobs = [folder.job(key()) for _ in range(KEPT_JOBS + 1)]
    (folder.jobs / "gone").symlink_to("nowhere")  # it is listed, but its target does not exist
    folder.prune(set())
    assert len([path for path in jobs if path.exists()]) == KEPT_JOBS


def test_an_attempt_begins_in_an_empty_folder(folder: WorkerFolder) -> None:
    attempt = key()
    (folder.job(attempt) / "old").touch()
    assert list(folder.job(attempt).iterdir()) == []


def folder_path(bus_url: str) -> Path:
    settings = Settings(bus_url=SecretStr(bus_url), work_dir=Path("/work"))
    return WorkerFolder.of(settings, Phase.TRAIN, "w").path


def test_workers_at_different_brokers_are_not_beside_one_another() -> None:
    assert len({folder_path(f"amqp://u:p@{broker}").parent for broker in ("a/", "b/", "a:5673/", "a/v")}) == 4


def test_a_new_password_leaves_a_worker_its_folder() -> None:
    assert folder_path("amqp://u:old@host/") == folder_path("amqp://u:new@host/")


def test_only_its_user_can_access_a_new_folder_and_its_new_parents(tmp_path: Path) -> None:
    folder = WorkerFolder(tmp_path / "work" / "train" / "w")
    folder.lock()
    made = [folder.jobs, *folder.jobs.parents]
    assert {path.stat().st_mode & 0o777 for path in made[: made.index(tmp_path)]} == {0o700}
    folder.unlock()


def test_folders_of_jobs_that_cannot_be_read_are_left(folder: WorkerFolder) -> None:
    folder.jobs.parent.mkdir()
    folder.jobs.touch()
    with capture_logs() as logs:
        folder.prune(set())
    assert [line["event"] for line in logs] == ["jobs_not_pruned"]
