"""A spooled event is found after a restart of the worker, until it is removed."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from contracts.events import PhasePaused
from contracts.tasks import AttemptKey, Phase
from contracts.topology import EVENTS
from contracts.wire import decode
from infra.worker.spool import Spool, SpoolUnreadable

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_spool import paused
from infra.worker.spool import Spool
spool = Spool(Path(sys.argv[1]))
for _ in range(3):
    spool.keep(paused(), {})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    spool = Spool(path)
    yield spool
    spool.close()


def paused() -> PhasePaused:
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.TRAIN, attempt=1)
    return PhasePaused(key=key, claim_id=uuid4(), worker_id="w")


def found_after_restart(path: Path) -> list[PhasePaused]:
    spool = Spool(path)
    events = [decode(spooled.message.body, PhasePaused) for spooled in spool.entries()]
    spool.close()
    return events


def test_an_event_is_found_after_a_restart(spool: Spool, path: Path) -> None:
    event = paused()
    spool.keep(event, {"traceparent": "t"})
    assert found_after_restart(path) == [event]


def test_what_a_killed_process_had_written_is_found(path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, path], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(found_after_restart(path)) == 3


def test_what_is_found_can_be_published_as_it_was(spool: Spool) -> None:
    event = paused()
    kept = spool.keep(event, {"traceparent": "t"}).message
    assert (kept.exchange, kept.routing_key, kept.message_id) == (
        EVENTS.name,
        "phase_paused.train",
        str(event.message_id),
    )
    assert [spooled.message for spooled in spool.entries()] == [kept]


def test_a_removed_event_is_gone(spool: Spool) -> None:
    spool.keep(paused(), {}).remove()
    assert spool.entries() == []


def test_removing_one_event_leaves_the_others(spool: Spool) -> None:
    first, second, third = (spool.keep(paused(), {}) for _ in range(3))
    second.remove()
    assert [spooled.message for spooled in spool.entries()] == [first.message, third.message]


def test_what_is_found_can_be_removed(spool: Spool) -> None:
    spool.keep(paused(), {})
    (found,) = spool.entries()
    found.remove()
    assert spool.entries() == []


def test_events_come_oldest_first(spool: Spool) -> None:
    kept = [spool.keep(paused(), {}).message for _ in range(5)]
    assert [found.message for found in spool.entries()] == kept


def test_a_spool_that_was_never_used_is_empty_and_makes_no_file(spool: Spool, path: Path) -> None:
    assert spool.entries() == []
    assert not path.exists()


def test_a_damaged_file_is_set_aside_and_the_next_event_is_kept(spool: Spool, path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with capture_logs() as logs:
        assert spool.entries() == []
    assert [line["event"] for line in logs] == ["spool_damaged"]
    spool.keep(paused(), {})
    assert len(spool.entries()) == 1
    assert path.with_suffix(".damaged").exists()


def test_a_spool_that_cannot_be_opened_is_reported_as_unreadable_and_stays(spool: Spool, path: Path) -> None:
    path.mkdir()
    with pytest.raises(SpoolUnreadable, match=r"spool\.db: unable to open"):
        spool.entries()
    assert path.exists()


def test_a_failed_write_is_logged_and_the_event_can_be_published(spool: Spool, path: Path) -> None:
    path.mkdir()
    with capture_logs() as logs:
        spooled = spool.keep(paused(), {})
        spooled.remove()
    assert [line["event"] for line in logs] == ["event_not_spooled"]
    assert spooled.message.routing_key == "phase_paused.train"


def test_a_disk_that_is_full_is_logged(spool: Spool, path: Path) -> None:
    spool.keep(paused(), {})
    size = os.path.getsize(path) + os.path.getsize(f"{path}-wal")
    assert spool._open is not None
    spool._open.execute(f"PRAGMA max_page_count = {size // 4096}")
    with capture_logs() as logs:
        for _ in range(100):
            spool.keep(paused(), {})
    assert {line["event"] for line in logs} == {"event_not_spooled"}


def test_the_file_is_written_as_sqlite_does_for_processes_that_may_be_killed(spool: Spool, path: Path) -> None:
    spool.keep(paused(), {})
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


def test_an_event_that_an_earlier_version_stored_gets_the_routing_key_of_this_one(spool: Spool, path: Path) -> None:
    kept = spool.keep(paused(), {}).message
    with sqlite3.connect(path) as earlier:
        earlier.execute("UPDATE events SET routing_key = 'phase_paused'")
    assert [found.message for found in spool.entries()] == [kept]


def test_a_stored_event_that_cannot_be_decoded_keeps_its_routing_key(spool: Spool, path: Path) -> None:
    spool.keep(paused(), {})
    with sqlite3.connect(path) as earlier:
        earlier.execute("UPDATE events SET routing_key = 'phase_paused', body = ?", (b"{}",))
    assert [found.message.routing_key for found in spool.entries()] == ["phase_paused"]
