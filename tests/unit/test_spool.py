"""An event that was written is found by the next life, until it is removed."""

import os
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from contracts.events import PhasePaused
from contracts.tasks import AttemptKey, Phase
from contracts.topology import EVENTS
from contracts.wire import decode
from infra.worker import spool as module
from infra.worker.spool import Spool, Spooled


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def paused() -> PhasePaused:
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)
    return PhasePaused(key=key, claim_id=uuid4(), worker_id="w")


async def written(spool: Spool, headers: dict[str, str] | None = None) -> Spooled:
    """An event that is on the disk."""
    spooled = spool.entry(paused(), headers or {})
    await spooled.write()
    return spooled


async def test_an_event_is_found_again_by_another_life(spool: Spool, tmp_path: Path) -> None:
    event = paused()
    await spool.entry(event, {"traceparent": "t"}).write()
    (found,) = Spool(tmp_path / "spool").entries()
    assert decode(found.message.body, PhasePaused) == event


async def test_what_is_found_can_be_published_as_it_was(spool: Spool) -> None:
    kept = (await written(spool, {"traceparent": "t"})).message
    event = decode(kept.body, PhasePaused)
    assert (kept.exchange, kept.routing_key, kept.message_id) == (EVENTS.name, "phase_paused", str(event.message_id))
    assert next(spool.entries()).message == kept


async def test_a_removed_event_is_gone(spool: Spool, tmp_path: Path) -> None:
    (await written(spool)).remove()
    assert os.listdir(tmp_path / "spool") == []


def test_an_event_that_was_never_written_can_be_removed(spool: Spool) -> None:
    spool.entry(paused(), {}).remove()
    assert list(spool.entries()) == []


async def test_events_come_oldest_first(spool: Spool) -> None:
    kept = [(await written(spool)).message for _ in range(5)]
    assert [found.message for found in spool.entries()] == kept


async def test_a_file_that_was_being_written_in_a_crash_is_no_event(spool: Spool, tmp_path: Path) -> None:
    (await written(spool)).remove()
    (tmp_path / "spool" / "half.part").write_text('{"routing')
    assert list(spool.entries()) == []


async def test_an_unreadable_file_is_set_aside_and_holds_up_no_other(spool: Spool, tmp_path: Path) -> None:
    await written(spool)
    (tmp_path / "spool" / "bad.json").write_text("{}")
    assert len(list(spool.entries())) == 1
    assert (tmp_path / "spool" / "bad.unreadable").exists()


def test_a_spool_that_was_never_used_is_empty(spool: Spool) -> None:
    assert list(spool.entries()) == []


async def test_a_disk_that_refuses_is_logged_and_left_as_it_was(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with capture_logs() as logs:
        await written(spool)
    assert [line["event"] for line in logs] == ["event_not_spooled"]
    assert os.listdir(tmp_path / "spool") == []


async def test_a_file_is_whole_before_it_has_its_name(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    replace = Path.replace

    def renamed(self: Path, target: Path) -> Path:
        assert synced, "the content is synced before the rename"
        return replace(self, target)

    monkeypatch.setattr(module.os, "fsync", synced.append)
    monkeypatch.setattr(Path, "replace", renamed)
    await written(spool)
    assert len(synced) == 2  # the file, then its folder
