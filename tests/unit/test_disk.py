"""What a worker finds out about its disks, with disks that a test describes and with the real one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.worker import disk
from infra.worker.disk import DEFAULT_MINIMUM, RETURN_FACTOR, Disks

GIB = 2**30


def disks_with(folder: Path, minimum: int | None = None, **fields: Any) -> Disks:
    """Disks of `folder` of 100 GiB, half free; `fields` replace those of `os.statvfs`."""
    values = {"f_bsize": 1, "f_frsize": 1, "f_blocks": 100 * GIB, "f_bfree": 50 * GIB, "f_bavail": 50 * GIB}
    values |= {"f_files": 1000, "f_ffree": 900, "f_favail": 900, "f_flag": 0, "f_namemax": 255} | fields
    return Disks(folder, minimum, lambda _: os.statvfs_result(tuple(values.values())))


def test_a_disk_with_room_is_no_problem(tmp_path: Path) -> None:
    assert disks_with(tmp_path).problem() is None


def test_a_full_disk_is_told_with_what_is_free_and_what_is_needed(tmp_path: Path) -> None:
    problem = disks_with(tmp_path, f_bavail=12 * 2**20).problem()
    assert problem == f"has 12.0 MiB free in {tmp_path}, needs 1.0 GiB"


def test_a_small_disk_needs_a_twentieth_of_its_size(tmp_path: Path) -> None:
    small = {"f_blocks": 6_000_000}
    assert disks_with(tmp_path, f_bavail=300_000, **small).problem() is None
    assert disks_with(tmp_path, f_bavail=299_999, **small).problem() is not None


@given(minimum=st.integers(0, 2**50), free=st.integers(0, 2**50))
def test_the_minimum_of_the_settings_decides(minimum: int, free: int) -> None:
    problem = disks_with(Path("/"), minimum, f_bavail=free).problem()
    assert (problem is None) == (free >= minimum)


def test_a_disk_that_was_full_needs_a_little_more_room_before_it_counts_as_free(tmp_path: Path) -> None:
    barely = disks_with(tmp_path, f_bavail=DEFAULT_MINIMUM)
    assert (barely.problem(), barely.problem(was_full=True) is None) == (None, False)
    enough = disks_with(tmp_path, f_bavail=round(DEFAULT_MINIMUM * RETURN_FACTOR))
    assert enough.problem(was_full=True) is None


def test_a_disk_without_inodes_is_full(tmp_path: Path) -> None:
    assert "free inodes" in str(disks_with(tmp_path, f_favail=3).problem())


def test_a_disk_that_counts_no_inodes_is_not_full(tmp_path: Path) -> None:
    assert disks_with(tmp_path, f_files=0, f_favail=0).problem() is None


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    assert str(disks_with(tmp_path, f_flag=os.ST_RDONLY).problem()).endswith("its disk is mounted read-only")


def test_a_disk_that_cannot_be_asked_is_a_problem(tmp_path: Path) -> None:
    def broken(_: Path) -> os.statvfs_result:
        raise OSError(errno.EIO, "Input/output error", str(tmp_path))

    disks = Disks(tmp_path, None, broken)
    assert (disks.problem(), disks.free()) == (f"cannot use {tmp_path}: Input/output error", None)


def test_the_folder_may_not_exist_yet(tmp_path: Path) -> None:
    assert Disks(tmp_path / "not" / "yet", 0).problem() is None


def test_a_write_leaves_nothing_behind(tmp_path: Path) -> None:
    assert Disks(tmp_path).write_problem() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_write_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str) -> None:
    monkeypatch.setattr(*((Path, "open") if call == "open" else (disk.os, "fsync")), failing(number))
    assert Disks(tmp_path).write_problem() == f"cannot write to {tmp_path}: {os.strerror(number)}"


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_temporary_folder_on_another_disk_needs_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path("/dev/shm")
    if not other.exists() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second disk at /dev/shm")
    monkeypatch.setattr(disk.tempfile, "gettempdir", lambda: str(other))

    def full_there(path: Path) -> os.statvfs_result:
        return disks_with(path, f_bavail=0 if path == other else 50 * GIB).statvfs(path)

    assert str(Disks(tmp_path, None, full_there).problem()).startswith(f"has 0 B free in {other}, needs 64.0 MiB")


def test_a_disk_that_cannot_even_be_looked_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", failing(errno.EIO))
    assert Disks(tmp_path).problem() == f"cannot use {tmp_path}: {os.strerror(errno.EIO)}"
