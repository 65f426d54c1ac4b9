"""Folders for one user: created private whatever the umask is, closed if they were open, refused in foreign hands."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.private_folders import NotPrivate, create_private, make_private, open_private
from infra.stack.passage import open_passage
from infra.worker.folders import WorkerFolder

SOMEBODY, NOBODY = 65533, 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_and_its_missing_parents_are_created_private(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b")] == [0o700, 0o700]


def test_a_folder_of_an_earlier_version_is_closed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    make_private(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o700


def test_a_folder_that_may_be_in_use_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o710)
    create_private(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o710


def test_a_file_is_private_from_the_beginning(tmp_path: Path) -> None:
    with open_private(tmp_path / "f", "ab") as file:
        file.write(b"x")
        assert mode(tmp_path / "f") == 0o600


def test_the_folders_of_a_worker_and_of_its_jobs_are_private(tmp_path: Path) -> None:
    from tests.unit.test_worker_folders import key

    (tmp_path / "w" / "jobs").mkdir(mode=0o777, parents=True)
    folder = WorkerFolder(tmp_path / "w")
    folder.lock()
    assert [mode(path) for path in (folder.path, folder.jobs, folder.job(key()))] == [0o700] * 3
    folder.unlock()


@root_only
@pytest.mark.parametrize("below", ["", "w"])
def test_a_folder_that_another_user_made_in_a_shared_place_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "tmp").mkdir(mode=0o1777)
    (tmp_path / "tmp" / "squatted").mkdir()
    os.chown(tmp_path / "tmp" / "squatted", NOBODY, NOBODY)
    with pytest.raises(NotPrivate, match="belongs to another user"):
        make_private(tmp_path / "tmp" / "squatted" / below)


def reads(user: int, path: Path) -> bool:
    """Whether another user can read a file."""
    tried = subprocess.run(["cat", str(path)], user=user, group=user, extra_groups=[], capture_output=True)
    return tried.returncode == 0


@pytest.fixture
def passage(tmp_path: Path) -> Path:
    """A file below two private folders, which SOMEBODY may pass."""
    for step in (tmp_path, *tmp_path.parents[:-2]):
        open_passage(step, SOMEBODY)
        open_passage(step, NOBODY)
    file = make_private(tmp_path / "a" / "b") / "f"
    file.write_text("x")
    for _ in range(2):
        open_passage(file.parent, SOMEBODY)
    return file


@root_only
def test_a_passage_is_for_one_user_only(passage: Path) -> None:
    assert (reads(SOMEBODY, passage), reads(NOBODY, passage)) == (True, False)


@root_only
def test_a_folder_is_closed_again_with_its_passage(passage: Path) -> None:
    make_private(passage.parent)
    assert not reads(SOMEBODY, passage)


@root_only
def test_without_access_control_lists_all_users_may_pass_but_not_look(
    passage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "not supported")

    make_private(passage.parent)
    monkeypatch.setattr(os, "setxattr", refuse)
    open_passage(passage.parent, SOMEBODY)
    assert (mode(passage.parent), reads(SOMEBODY, passage)) == (0o701, True)
