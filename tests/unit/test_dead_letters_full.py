"""A queue of dead letters that is nearly full is reported: in the log, by `treadle doctor`, by `treadle dlq list`."""

from __future__ import annotations

import pytest
import structlog

from cli.dead_letters.view import show_all
from cli.doctor import checks
from cli.options import OutputFormat
from contracts.topology import DEAD, DEAD_QUEUE
from control.maintenance.dead_letter_watch import DeadLetterWatch
from control.maintenance.replay import dead_letters
from infra.bus.inprocess import InProcessBus
from infra.bus.port import OutgoingMessage
from infra.settings import Settings

assert DEAD_QUEUE.max_length is not None, "the queue has a limit"
NEARLY_FULL = int(0.8 * DEAD_QUEUE.max_length)


async def filled(letters: int) -> InProcessBus:
    """A bus with so many dead letters."""
    bus = InProcessBus()
    await bus.start()
    await bus.publish_all([OutgoingMessage(DEAD.name, "train", b"{}", str(number)) for number in range(letters)])
    return bus


@pytest.mark.parametrize(("letters", "lines"), [(NEARLY_FULL - 1, 0), (NEARLY_FULL, 1)])
async def test_the_log_reports_it_once(letters: int, lines: int) -> None:
    bus = await filled(letters)
    watch = DeadLetterWatch(bus)
    with structlog.testing.capture_logs() as logged:
        await watch.check()
        await watch.check()
    assert [line["event"] for line in logged] == ["dead_letters_nearly_full"] * lines
    await bus.close()


async def test_a_full_queue_deletes_its_oldest_dead_letters() -> None:
    bus = await filled(DEAD_QUEUE.max_length + 2)  # type: ignore[operator]  # it has a limit
    letters = await dead_letters(bus)
    assert (len(letters), letters[0].id) == (DEAD_QUEUE.max_length, "2")
    await bus.close()


async def test_the_list_says_how_to_make_room(capsys: pytest.CaptureFixture[str]) -> None:
    bus = await filled(NEARLY_FULL)
    letters = await dead_letters(bus)
    capsys.readouterr()
    show_all(letters, OutputFormat.JSON)
    assert "treadle dlq purge" in capsys.readouterr().err
    await bus.close()


@pytest.mark.parametrize(("letters", "state"), [(NEARLY_FULL - 1, "fine"), (NEARLY_FULL, "optional")])
async def test_doctor_reports_it(letters: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def count(_: Settings) -> int:
        return letters

    monkeypatch.setattr(checks, "_dead_letters", count)
    check = await checks._broker(Settings())
    assert check.state.value == state
