"""The child process's side of a program, called directly in this process."""

import errno
import json
import signal
import threading
from pathlib import Path

import pytest

from contracts.tasks import FailureKind
from infra.child import program
from infra.child.outcome import Failure
from infra.child.program import FAILED, STOPPED, UNFIT, Job
from tests.programs import scripted
from tests.programs.scripted import Action, Spec


@pytest.fixture(autouse=True)
def _signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def run(folder: Path, *actions: Action) -> int:
    (folder / "spec.json").write_text(Spec(actions=list(actions)).model_dump_json())
    return program.run("scripted", folder, scripted)  # type: ignore[arg-type]  # its main takes its own Spec


def test_success_is_status_zero_and_a_result(tmp_path: Path) -> None:
    assert run(tmp_path, "write") == 0
    assert json.loads((tmp_path / "result.json").read_text()) == {"answer": 42}


def test_a_typed_failure_is_written_to_error_json(tmp_path: Path) -> None:
    assert run(tmp_path, "bad_input") == FAILED
    assert json.loads((tmp_path / "error.json").read_text()) == {
        "failure": "bad_input",
        "message": "line 3 is no JSON",
        "field": "data.jsonl:3",
    }


def test_the_reason_is_also_printed_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "bad_input")
    assert capsys.readouterr().err == "line 3 is no JSON\n"


def test_half_a_surrogate_pair_does_not_hide_the_reason(tmp_path: Path) -> None:
    run(tmp_path, "bad_text")
    failure = Failure.model_validate_json((tmp_path / "error.json").read_bytes())
    assert failure.message == "half a pair: ?"


def test_the_number_of_accelerators_is_written_after_a_failure_too(tmp_path: Path) -> None:
    run(tmp_path, "bad_input")
    assert json.loads((tmp_path / "usage.json").read_text()) == {"accelerators": 0}


def test_a_fault_is_left_to_crash(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a number"):
        run(tmp_path, "crash")


def test_a_full_disk_is_the_machines_fault(tmp_path: Path) -> None:
    assert run(tmp_path, "disk_full") == FAILED
    failure = Failure.model_validate_json((tmp_path / "error.json").read_bytes())
    assert failure.failure is FailureKind.WORKER_UNFIT
    assert failure.message == "OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize("action", ["disk_full", "write", "bad_input"])
def test_a_reason_that_cannot_be_written_has_its_own_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    (tmp_path / "spec.json").write_text(Spec(actions=[action]).model_dump_json())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "write_text", full)
    assert program.run("scripted", tmp_path, scripted) == UNFIT  # type: ignore[arg-type]  # as above


def test_a_program_that_cannot_be_imported_has_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "die_with_parent", lambda: None)
    monkeypatch.setattr(program, "reserve_stdout", lambda: None)
    assert program.main(["tests.programs.needs_a_package"]) == UNFIT


def test_a_program_that_stops_on_request_has_its_own_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Event, "wait", lambda *_: True)
    assert run(tmp_path, "wait_for_stop") == STOPPED


def test_the_last_of_tracked_items_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Job(tmp_path).track("abc", "reading", 3)) == ["a", "b", "c"]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (lines[0]["done"], lines[-1]["done"], lines[-1]["total"]) == (0, 3, 3)
