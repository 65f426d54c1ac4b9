"""The spool keeps an event until it is removed, whatever happens in between."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from contracts.events import PhasePaused
from contracts.tasks import AttemptKey, Phase
from contracts.topology import EVENTS
from contracts.wire import decode
from infra.worker.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def paused() -> PhasePaused:
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)
    return PhasePaused(key=key, claim_id=uuid4(), worker_id="w")


async def test_an_event_is_found_again_by_another_life(spool: Spool, tmp_path: Path) -> None:
    event = paused()
    await spool.keep(event, {"traceparent": "t"})
    (found,) = Spool(tmp_path).entries()
    assert decode(found.message.body, PhasePaused) == event


async def test_what_is_found_can_be_published_as_it_was(spool: Spool) -> None:
    event = paused()
    kept = (await spool.keep(event, {"traceparent": "t"})).message
    assert (kept.exchange, kept.routing_key, kept.message_id) == (EVENTS.name, "phase_paused", str(event.message_id))
    assert next(spool.entries()).message == kept


async def test_a_removed_event_is_gone(spool: Spool) -> None:
    (await spool.keep(paused(), {})).remove()
    assert list(spool.entries()) == []


async def test_events_come_oldest_first(spool: Spool) -> None:
    kept = [(await spool.keep(paused(), {})).message for _ in range(5)]
    assert [found.message for found in spool.entries()] == kept


def test_a_file_that_was_being_written_in_a_crash_is_no_event(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "half.part").write_text('{"routing')
    assert list(spool.entries()) == []


async def test_an_unreadable_file_is_set_aside_and_holds_up_no_other(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    await spool.keep(paused(), {})
    assert len(list(spool.entries())) == 1
    assert (tmp_path / "bad.unreadable").exists()


def test_a_spool_that_was_never_used_is_empty(tmp_path: Path) -> None:
    assert list(Spool(tmp_path / "nothing").entries()) == []


async def test_events_that_come_together_share_a_file_which_goes_with_the_last(spool: Spool) -> None:
    kept = await asyncio.gather(*(spool.keep(paused(), {}) for _ in range(5)))
    assert len({id(one.file) for one in kept}) < len(kept)
    for one in kept[:-1]:
        one.remove()
    assert [found.message for found in spool.entries()][-1] == kept[-1].message
    kept[-1].remove()
    assert list(spool.entries()) == []


async def test_an_event_that_cannot_be_written_down_says_so(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("no folder")
    with pytest.raises(FileExistsError):
        await Spool(tmp_path / "spool").keep(paused(), {})
