"""The spool keeps an event until it is removed, whatever happens in between."""

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


def test_an_event_is_found_again_by_another_life(spool: Spool, tmp_path: Path) -> None:
    event = paused()
    spool.keep(event, {"traceparent": "t"})
    (found,) = Spool(tmp_path).entries()
    assert decode(found.message.body, PhasePaused) == event


def test_what_is_found_can_be_published_as_it_was(spool: Spool) -> None:
    event = paused()
    kept = spool.keep(event, {"traceparent": "t"}).message
    assert (kept.exchange, kept.routing_key, kept.message_id) == (EVENTS.name, "phase_paused", str(event.message_id))
    assert next(spool.entries()).message == kept


def test_a_removed_event_is_gone(spool: Spool) -> None:
    spool.keep(paused(), {}).remove()
    assert list(spool.entries()) == []


def test_events_come_oldest_first(spool: Spool) -> None:
    kept = [spool.keep(paused(), {}).path for _ in range(5)]
    assert [found.path for found in spool.entries()] == kept


def test_a_file_that_was_being_written_in_a_crash_is_no_event(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "half.part").write_text('{"routing')
    assert list(spool.entries()) == []


def test_an_unreadable_file_is_set_aside_and_holds_up_no_other(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    spool.keep(paused(), {})
    assert len(list(spool.entries())) == 1
    assert (tmp_path / "bad.unreadable").exists()


def test_a_spool_that_was_never_used_is_empty(tmp_path: Path) -> None:
    assert list(Spool(tmp_path / "nothing").entries()) == []
