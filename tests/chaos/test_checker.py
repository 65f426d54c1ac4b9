"""The checker reports each promise that is broken; every test breaks one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from contracts.artifacts import Manifest, ManifestFile, attempt_prefix
from contracts.tasks import AttemptKey, Phase, TaskStatus
from tests.chaos.checker import check
from tests.chaos.rows import AttemptRow, Evidence, HistoryRow, Kind, Submitted, TaskRow

TASK = UUID("11111111-1111-4111-8111-111111111111")
START = datetime(2026, 1, 1, tzinfo=UTC)
ONCE_THROUGH = (TaskStatus.COMPLETED, "once_through")
COMPLETIONS = {Phase.OPTIMIZE: "data_optimized", Phase.TRAIN: "model_trained", Phase.EVALUATE: "model_evaluated"}


def key(phase: Phase, attempt: int = 1) -> AttemptKey:
    return AttemptKey(task_id=TASK, iteration=1, phase=phase, attempt=attempt)


def claim(phase: Phase, attempt: int = 1) -> str:
    return f"claim of {phase} {attempt}"


def attempt_row(phase: Phase, attempt: int, second: int, closed_by: str, state: str = "completed") -> AttemptRow:
    """An attempt that was issued at `second` and ended a second later."""
    created, holder = START + timedelta(seconds=second), claim(phase, attempt)
    return AttemptRow(key(phase, attempt), state, holder, closed_by, holder, created, created + timedelta(seconds=1))


def row(version: int | None, kind: str, status: str, of: tuple[Phase, int] | None = None) -> HistoryRow:
    event: dict[str, Any] = {}
    if of is not None:
        event = {"key": key(*of).model_dump(mode="json"), "claim_id": claim(*of)}
    return HistoryRow(TASK, version, kind, status, event)


FILE = ManifestFile(name="rows.txt", size=4, sha256="a" * 64)
MANIFESTS = {attempt_prefix(key(phase, 2 if phase is Phase.TRAIN else 1)): Manifest(files=(FILE,)) for phase in Phase}

FAULTLESS = Evidence(
    submitted=[Submitted(TASK, True, frozenset({ONCE_THROUGH}), 1)],
    tasks={TASK: TaskRow(TASK, 6, "COMPLETED", "once_through", 1)},
    history=[
        row(1, "create_task", "PENDING"),
        row(2, "start_task", "OPTIMIZING"),
        row(3, "data_optimized", "TRAINING", (Phase.OPTIMIZE, 1)),
        row(4, "lease_lost", "TRAINING", (Phase.TRAIN, 1)),
        row(5, "model_trained", "EVALUATING", (Phase.TRAIN, 2)),
        row(None, "model_trained", "EVALUATING", (Phase.TRAIN, 1)),
        row(6, "model_evaluated", "COMPLETED", (Phase.EVALUATE, 1)),
    ],
    attempts=[
        attempt_row(Phase.OPTIMIZE, 1, 0, "data_optimized"),
        attempt_row(Phase.TRAIN, 1, 1, "lease_lost", "lost"),
        attempt_row(Phase.TRAIN, 2, 2, "model_trained"),
        attempt_row(Phase.EVALUATE, 1, 3, "model_evaluated"),
    ],
    files={f"{prefix}/{FILE.name}": FILE for prefix in MANIFESTS},
    manifests=MANIFESTS,
)


def kinds(evidence: Evidence) -> set[Kind]:
    return {violation.kind for violation in check(evidence)}


def with_task(**changes: Any) -> Evidence:
    return replace(FAULTLESS, tasks={TASK: replace(FAULTLESS.tasks[TASK], **changes)})


def with_history(*rows: HistoryRow) -> Evidence:
    """FAULTLESS with these rows added, and the version of the task that follows from them."""
    task = replace(FAULTLESS.tasks[TASK], version=6 + sum(row.version is not None for row in rows))
    return replace(FAULTLESS, history=[*FAULTLESS.history, *rows], tasks={TASK: task})


def with_attempt(index: int, **changes: Any) -> Evidence:
    attempts = list(FAULTLESS.attempts)
    attempts[index] = replace(attempts[index], **changes)
    return replace(FAULTLESS, attempts=attempts)


def test_a_run_that_kept_every_promise_has_no_violations() -> None:
    assert check(FAULTLESS) == []


def test_an_acknowledged_task_that_is_missing_is_lost() -> None:
    assert kinds(replace(FAULTLESS, tasks={}, history=[], attempts=[])) == {Kind.LOST}


@pytest.mark.parametrize("status", ["PENDING", "TRAINING", "SUSPENDED", "LOOPING"])
def test_an_acknowledged_task_that_never_ends_is_lost(status: str) -> None:
    assert kinds(with_task(status=status, reason=None)) == {Kind.LOST}


def test_a_submission_that_was_never_acknowledged_may_be_missing() -> None:
    unacknowledged = replace(FAULTLESS.submitted[0], acknowledged=False)
    assert (
        kinds(replace(FAULTLESS, submitted=[unacknowledged], tasks={}, history=[], attempts=[], files={}, manifests={}))
        == set()
    )


def test_a_submission_that_was_never_acknowledged_may_not_stop_half_way() -> None:
    unacknowledged = replace(FAULTLESS.submitted[0], acknowledged=False)
    assert kinds(replace(with_task(status="TRAINING", reason=None), submitted=[unacknowledged])) == {Kind.LOST}


def test_a_task_that_failed_instead_of_completing_has_a_wrong_end() -> None:
    assert kinds(with_task(status="FAILED", reason="lease_lost")) == {Kind.WRONG_END}


def test_a_task_that_completed_after_too_few_iterations_has_a_wrong_end() -> None:
    assert kinds(replace(FAULTLESS, submitted=[replace(FAULTLESS.submitted[0], iterations=2)])) == {Kind.WRONG_END}


def test_an_event_applied_twice_is_a_duplicate_transition() -> None:
    again = row(7, "model_evaluated", "COMPLETED", (Phase.EVALUATE, 1))
    assert Kind.DUPLICATE_TRANSITION in kinds(with_history(again))


def test_a_second_end_is_a_duplicate_transition() -> None:
    assert kinds(with_history(row(7, "cancel_task", "CANCELLED"))) == {Kind.DUPLICATE_TRANSITION}


def test_a_version_without_an_event_is_a_gap() -> None:
    assert kinds(with_task(version=7)) == {Kind.VERSION_GAP}


def test_a_missing_row_of_the_history_is_a_gap() -> None:
    history = [row for row in FAULTLESS.history if row.version != 2]
    assert kinds(replace(FAULTLESS, history=history)) == {Kind.VERSION_GAP}


def test_an_event_of_an_older_attempt_that_was_applied_is_a_stale_write() -> None:
    late = row(7, "phase_failed", "COMPLETED", (Phase.TRAIN, 1))
    assert Kind.STALE_WRITE in kinds(with_history(late))


def test_an_event_that_was_applied_to_an_attempt_which_another_had_ended_is_a_stale_write() -> None:
    assert kinds(with_attempt(1, closed_by="phase_failed")) == {Kind.STALE_WRITE}


def test_a_stale_event_from_another_claim_means_two_holders() -> None:
    other = replace(FAULTLESS.history[5], event={**FAULTLESS.history[5].event, "claim_id": "another"})
    assert kinds(with_history(other)) == {Kind.TWO_HOLDERS}


def test_an_attempt_issued_before_the_end_of_the_last_means_two_holders() -> None:
    assert kinds(with_attempt(2, created_at=START + timedelta(seconds=1))) == {Kind.TWO_HOLDERS}


def test_a_command_whose_attempt_never_ended_was_not_applied() -> None:
    assert Kind.COMMAND in kinds(with_attempt(3, state="dispatched", ended_at=None))


def test_an_applied_event_of_a_fenced_attempt_is_one_event_too_many() -> None:
    assert kinds(with_attempt(3, state="fenced")) == {Kind.COMMAND}


def test_a_completed_attempt_without_a_manifest_is_reported() -> None:
    prefix = attempt_prefix(key(Phase.EVALUATE))
    manifests = {name: manifest for name, manifest in MANIFESTS.items() if name != prefix}
    files = {path: file for path, file in FAULTLESS.files.items() if not path.startswith(prefix)}
    assert kinds(replace(FAULTLESS, manifests=manifests, files=files)) == {Kind.ARTIFACT}


def test_a_missing_file_of_a_manifest_is_reported() -> None:
    assert kinds(replace(FAULTLESS, files=dict(list(FAULTLESS.files.items())[1:]))) == {Kind.ARTIFACT}


@pytest.mark.parametrize("change", [{"size": 5}, {"sha256": "b" * 64}])
def test_a_file_with_another_size_or_hash_than_in_its_manifest_is_reported(change: dict[str, Any]) -> None:
    files = {path: file.model_copy(update=change) for path, file in FAULTLESS.files.items()}
    assert kinds(replace(FAULTLESS, files=files)) == {Kind.ARTIFACT}


def test_a_file_that_is_not_listed_in_the_manifest_of_its_artifact_is_reported() -> None:
    files = {**FAULTLESS.files, f"{next(iter(MANIFESTS))}/late.txt": FILE}
    assert kinds(replace(FAULTLESS, files=files)) == {Kind.ARTIFACT}


def test_an_incomplete_upload_of_a_lost_attempt_is_no_artifact() -> None:
    files = {**FAULTLESS.files, f"{attempt_prefix(key(Phase.TRAIN, 1))}/rows.txt": FILE}
    assert kinds(replace(FAULTLESS, files=files)) == set()


def test_a_manifest_that_cannot_be_read_is_reported() -> None:
    torn = {**MANIFESTS, attempt_prefix(key(Phase.TRAIN, 1)): "it ends in the middle"}
    assert kinds(replace(FAULTLESS, manifests=torn)) == {Kind.ARTIFACT}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"outbox": 1}, Kind.OUTBOX),
        ({"dead": ["treadle.control: unknown kind"]}, Kind.DEAD_LETTER),
        ({"surprises": ["control-1 ended by itself"]}, Kind.SURPRISE),
    ],
)
def test_unfinished_work_and_surprises_are_reported(changes: dict[str, Any], kind: Kind) -> None:
    assert kinds(replace(FAULTLESS, **changes)) == {kind}
