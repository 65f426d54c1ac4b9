"""An event that is not removed soon is written down, and kept until it is, whatever happens in between."""

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import pytest

from contracts.events import PhasePaused
from contracts.tasks import AttemptKey, Phase
from contracts.topology import EVENTS
from contracts.wire import decode
from infra.worker import spool as module
from infra.worker.spool import Spool, Spooled
from tests.eventually import eventually


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def paused() -> PhasePaused:
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)
    return PhasePaused(key=key, claim_id=uuid4(), worker_id="w")


async def written(spool: Spool, headers: dict[str, str] | None = None) -> Spooled:
    """An event that is on the disk."""
    spooled = spool.keep(paused(), headers or {})
    assert await spool.flush()
    return spooled


async def settled(spool: Spool) -> None:
    """Wait until no event waits any more: it was written, or removed."""

    async def still() -> bool:
        return spool._writing is None and spool._timer is None

    await eventually(still, "the spool to be still")


async def test_an_event_is_found_again_by_another_life(spool: Spool, tmp_path: Path) -> None:
    event = paused()
    spool.keep(event, {"traceparent": "t"})
    await spool.flush()
    (found,) = Spool(tmp_path).entries()
    assert decode(found.message.body, PhasePaused) == event


async def test_what_is_found_can_be_published_as_it_was(spool: Spool) -> None:
    kept = (await written(spool, {"traceparent": "t"})).message
    event = decode(kept.body, PhasePaused)
    assert (kept.exchange, kept.routing_key, kept.message_id) == (EVENTS.name, "phase_paused", str(event.message_id))
    assert next(spool.entries()).message == kept


async def test_an_event_that_nobody_removes_is_written_down(spool: Spool) -> None:
    kept = spool.keep(paused(), {})
    await settled(spool)
    assert [found.message for found in spool.entries()] == [kept.message]


async def test_an_event_in_a_hurry_is_written_down_at_once(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 3600)
    kept = spool.keep(paused(), {})
    spool.hurry()
    assert spool._writing is not None
    await spool._writing
    assert [found.message for found in spool.entries()] == [kept.message]


async def test_an_event_that_comes_after_a_quiet_time_is_written_down_too(spool: Spool) -> None:
    spool.keep(paused(), {}).remove()
    await settled(spool)
    spool.keep(paused(), {})
    await settled(spool)
    assert len(list(spool.entries())) == 1


async def test_an_event_that_is_removed_at_once_never_touches_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.keep(paused(), {}).remove()
    await settled(spool)
    await spool.close()
    assert not (tmp_path / "spool").exists()


async def test_a_removed_event_is_gone(spool: Spool) -> None:
    (await written(spool)).remove()
    assert list(spool.entries()) == []


async def test_an_event_that_is_removed_while_it_is_written_is_gone(spool: Spool) -> None:
    kept = spool.keep(paused(), {})
    flushing = asyncio.create_task(spool.flush())
    await asyncio.sleep(0)
    kept.remove()
    await flushing
    assert list(spool.entries()) == []


async def test_events_come_oldest_first(spool: Spool) -> None:
    kept = [(await written(spool)).message for _ in range(5)]
    assert [found.message for found in spool.entries()] == kept


def test_a_file_that_was_being_written_in_a_crash_is_no_event(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "half.part").write_text('{"routing')
    assert list(spool.entries()) == []


async def test_an_unreadable_file_is_set_aside_and_holds_up_no_other(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    await written(spool)
    assert len(list(spool.entries())) == 1
    assert (tmp_path / "bad.unreadable").exists()


def test_a_spool_that_was_never_used_is_empty(tmp_path: Path) -> None:
    assert list(Spool(tmp_path / "nothing").entries()) == []


async def test_events_that_come_together_share_a_file_which_goes_with_the_last(spool: Spool, tmp_path: Path) -> None:
    kept = [spool.keep(paused(), {}) for _ in range(5)]
    await spool.flush()
    for one in kept[:-1]:
        one.remove()
    assert len(os.listdir(tmp_path)) == 1
    kept[-1].remove()
    assert os.listdir(tmp_path) == []


async def test_closing_writes_down_at_once_what_is_not_removed(spool: Spool) -> None:
    kept = spool.keep(paused(), {})
    await spool.close()
    assert [found.message for found in spool.entries()] == [kept.message]


async def test_a_disk_that_refuses_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_AFTER", 0.01)
    (tmp_path / "spool").write_text("no folder")
    spool = Spool(tmp_path / "spool")
    kept = spool.keep(paused(), {})
    assert not await spool.flush()
    (tmp_path / "spool").unlink()
    await settled(spool)
    assert [found.message for found in spool.entries()] == [kept.message]


async def test_a_disk_that_refuses_in_the_middle_is_left_as_it_was(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    spool.keep(paused(), {})
    monkeypatch.setattr(module.os, "fsync", full)
    assert not await spool.flush()
    assert os.listdir(tmp_path) == []
    await spool.close()
