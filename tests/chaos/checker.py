"""What a run must have kept, whatever broke: judged from rows and files alone, as they are when all is over.

Pure: `check(evidence)` gives the violations. Each promise is one function here, and broken in `test_checker.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from uuid import UUID

from contracts.artifacts import Manifest, attempt_prefix
from contracts.tasks import AttemptKey, Phase, TaskStatus
from tests.chaos.rows import Evidence, Kind, RunRow, Violation
from tests.chaos.script import End

TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
ENDED_BY_EVENT = frozenset({"completed", "failed", "paused", "lost"})
ENDED_BY_REQUEST = frozenset({"cancelled", "fenced"})
PHASES = list(Phase)


def check(evidence: Evidence) -> list[Violation]:
    """Every promise that was broken."""
    return [violation for promise in PROMISES for violation in promise(evidence)]


def every_acknowledged_submission_ends_right(evidence: Evidence) -> Iterator[Violation]:
    """It has a task, which ended, where and after as many iterations as its script says."""
    for asked in evidence.submitted:
        task = evidence.tasks.get(asked.task_id)
        if task is None or task.status not in TERMINAL:
            if asked.acknowledged or (task is not None and task.status != TaskStatus.PENDING):
                where = "there is no such task" if task is None else f"it is {task.status}"
                yield Violation(Kind.LOST, where, asked.task_id)
        elif (TaskStatus(task.status), task.reason) not in asked.ends:
            yield Violation(Kind.WRONG_END, f"{task.status} ({task.reason}), not {_ends(asked.ends)}", asked.task_id)
        elif task.status == TaskStatus.COMPLETED and task.results != asked.iterations:
            yield Violation(Kind.WRONG_END, f"{task.results} iterations, not {asked.iterations}", asked.task_id)


def a_task_ends_once_and_an_attempt_ends_once(evidence: Evidence) -> Iterator[Violation]:
    """No event is applied twice, and nothing after the end."""
    for task_id, rows in evidence.applied.items():
        ends = sum(row.status in TERMINAL for row in rows)
        if ends > 1:
            yield Violation(Kind.DUPLICATE_TRANSITION, f"it reached an end {ends} times", task_id)
        for key, times in Counter(row.key for row in rows if row.key is not None).items():
            if times > 1:
                yield Violation(Kind.DUPLICATE_TRANSITION, f"{_name(key)} was ended {times} times", task_id)


def versions_are_contiguous(evidence: Evidence) -> Iterator[Violation]:
    """1, 2, 3 … up to the version of the task."""
    for task_id, task in evidence.tasks.items():
        versions = [row.version for row in evidence.applied.get(task_id, [])]
        if versions != list(range(1, task.version + 1)):
            yield Violation(Kind.VERSION_GAP, f"versions {versions} of a task at version {task.version}", task_id)


def no_event_of_an_older_attempt_is_applied(evidence: Evidence) -> Iterator[Violation]:
    """The attempts that events end only ever grow, and each run was ended by the event that the history tells of."""
    runs = {run.key: run for run in evidence.runs}
    for task_id, rows in evidence.applied.items():
        ended = [(row, row.key) for row in rows if row.key is not None]
        for (_, before), (row, key) in pairwise(ended):
            if _order(key) < _order(before):
                yield Violation(Kind.STALE_WRITE, f"{row.kind} of {_name(key)} after {_name(before)}", task_id)
        for row, key in ended:
            run = runs.get(key)
            if run is None or (run.closed_by, run.closing_claim) != (row.kind, row.event["claim_id"]):
                yield Violation(Kind.STALE_WRITE, f"{row.kind} of {_name(key)}, which it did not end", task_id)


def an_attempt_has_one_holder(evidence: Evidence) -> Iterator[Violation]:
    """All that was reported about an attempt, stale or not, came from the claim that held it."""
    holder = {run.key: run.claim_id for run in evidence.runs}
    for row in evidence.history:
        if row.key is not None and row.event["claim_id"] != holder.get(row.key):
            yield Violation(Kind.TWO_HOLDERS, f"{row.kind} of {_name(row.key)} from another claim", row.task_id)


def attempts_follow_one_another(evidence: Evidence) -> Iterator[Violation]:
    """An attempt is issued only once the one before has ended."""
    of_task: defaultdict[UUID, list[RunRow]] = defaultdict(list)
    for run in evidence.runs:
        of_task[run.key.task_id].append(run)
    for task_id, runs in of_task.items():
        for before, after in pairwise(sorted(runs, key=lambda run: _order(run.key))):
            if before.ended_at is None or after.created_at < before.ended_at:
                text = f"{_name(after.key)} was issued while {_name(before.key)} could still run"
                yield Violation(Kind.TWO_HOLDERS, text, task_id)


def every_command_is_applied_once(evidence: Evidence) -> Iterator[Violation]:
    """Each attempt that was ordered came to one end: by one event, or by the request that fenced it."""
    rows = (row for rows in evidence.applied.values() for row in rows)
    events = Counter(row.key for row in rows if row.key is not None)
    for run in evidence.runs:
        expected = 1 if run.state in ENDED_BY_EVENT else 0
        if run.state not in ENDED_BY_EVENT | ENDED_BY_REQUEST:
            yield Violation(Kind.COMMAND, f"{_name(run.key)} is still {run.state}", run.key.task_id)
        elif events[run.key] != expected:
            text = f"{_name(run.key)} is {run.state} after {events[run.key]} events"
            yield Violation(Kind.COMMAND, text, run.key.task_id)


def no_artifact_is_missing_or_changed(evidence: Evidence) -> Iterator[Violation]:
    """A completed attempt has its manifest; whatever has one is as the manifest says, with nothing beside it."""
    for run in evidence.runs:
        prefix = attempt_prefix(run.key)
        if run.state == "completed" and prefix not in evidence.manifests:
            yield Violation(Kind.ARTIFACT, f"{prefix} has no manifest", run.key.task_id)
    beside: defaultdict[str, set[str]] = defaultdict(set)
    for path in evidence.files:
        beside[_prefix_of(path, evidence.manifests)].add(path)
    for prefix, manifest in evidence.manifests.items():
        yield from (Violation(Kind.ARTIFACT, text) for text in _faults(prefix, manifest, evidence, beside[prefix]))


def nothing_is_left_over(evidence: Evidence) -> Iterator[Violation]:
    """The outbox drains, nothing is dead-lettered, and nothing happened that no fault explains."""
    if evidence.outbox:
        yield Violation(Kind.OUTBOX, f"{evidence.outbox} messages were never published")
    yield from (Violation(Kind.DEAD_LETTER, reason) for reason in evidence.dead)
    yield from (Violation(Kind.SURPRISE, text) for text in evidence.surprises)


PROMISES: tuple[Callable[[Evidence], Iterable[Violation]], ...] = (
    every_acknowledged_submission_ends_right,
    a_task_ends_once_and_an_attempt_ends_once,
    versions_are_contiguous,
    no_event_of_an_older_attempt_is_applied,
    an_attempt_has_one_holder,
    attempts_follow_one_another,
    every_command_is_applied_once,
    no_artifact_is_missing_or_changed,
    nothing_is_left_over,
)


def _faults(prefix: str, manifest: Manifest | str, evidence: Evidence, beside: set[str]) -> Iterator[str]:
    if isinstance(manifest, str):
        yield f"the manifest of {prefix} cannot be read: {manifest}"
        return
    listed = {f"{prefix}/{file.name}": file for file in manifest.files}
    for path, file in listed.items():
        found = evidence.files.get(path)
        if found is None:
            yield f"{path} stands in its manifest and is missing"
        elif (found.size, found.sha256) != (file.size, file.sha256):
            yield f"{path} is not what its manifest says"
    yield from (f"{path} is not in the manifest beside it" for path in sorted(beside - listed.keys()))


def _prefix_of(path: str, manifests: Mapping[str, object]) -> str:
    """The artifact that a file belongs to: the nearest folder above it that has a manifest."""
    folder = path
    while folder := folder.rpartition("/")[0]:
        if folder in manifests:
            return folder
    return ""


def _order(key: AttemptKey) -> tuple[int, int, int]:
    return key.iteration, PHASES.index(key.phase), key.attempt


def _name(key: AttemptKey) -> str:
    return f"{key.phase} {key.iteration} attempt {key.attempt}"


def _ends(ends: frozenset[End]) -> str:
    return " or ".join(sorted(f"{status} ({reason})" for status, reason in ends))
