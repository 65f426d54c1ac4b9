"""Checks, from rows and files alone, that a chaos run broke no promise.

Pure: `check(evidence)` returns the violations. Each promise is one function, which `test_checker.py` tests.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from uuid import UUID

from contracts.artifacts import Manifest, attempt_prefix
from contracts.tasks import AttemptKey, Phase, TaskStatus
from tests.chaos.rows import AttemptRow, Evidence, Kind, Violation
from tests.chaos.script import End

TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
ENDED_BY_EVENT = frozenset({"completed", "failed", "paused", "lost"})
ENDED_BY_REQUEST = frozenset({"cancelled", "fenced"})
PHASES = list(Phase)


def check(evidence: Evidence) -> list[Violation]:
    """All violations of all promises."""
    return [violation for promise in PROMISES for violation in promise(evidence)]


def every_acknowledged_submission_ends_right(evidence: Evidence) -> Iterator[Violation]:
    """It has a task that ended with the status, the reason and the number of iterations of its script."""
    for submitted in evidence.submitted:
        task = evidence.tasks.get(submitted.task_id)
        if task is None or task.status not in TERMINAL:
            if submitted.acknowledged or (task is not None and task.status != TaskStatus.PENDING):
                text = "there is no such task" if task is None else f"it is {task.status}"
                yield Violation(Kind.LOST, text, submitted.task_id)
        elif (TaskStatus(task.status), task.reason) not in submitted.ends:
            text = f"{task.status} ({task.reason}), not {_ends(submitted.ends)}"
            yield Violation(Kind.WRONG_END, text, submitted.task_id)
        elif task.status == TaskStatus.COMPLETED and task.results != submitted.iterations:
            text = f"{task.results} iterations, not {submitted.iterations}"
            yield Violation(Kind.WRONG_END, text, submitted.task_id)


def a_task_ends_once_and_an_attempt_ends_once(evidence: Evidence) -> Iterator[Violation]:
    """No event is applied twice, and none after the end of the task."""
    for task_id, rows in evidence.applied.items():
        ends = sum(row.status in TERMINAL for row in rows)
        if ends > 1:
            yield Violation(Kind.DUPLICATE_TRANSITION, f"it reached an end {ends} times", task_id)
        for key, times in Counter(row.key for row in rows if row.key is not None).items():
            if times > 1:
                yield Violation(Kind.DUPLICATE_TRANSITION, f"{_name(key)} was ended {times} times", task_id)


def versions_are_contiguous(evidence: Evidence) -> Iterator[Violation]:
    """The versions in the history are 1, 2, 3 … up to the version of the task."""
    for task_id, task in evidence.tasks.items():
        versions = [row.version for row in evidence.applied.get(task_id, [])]
        if versions != list(range(1, task.version + 1)):
            yield Violation(Kind.VERSION_GAP, f"versions {versions} of a task at version {task.version}", task_id)


def no_event_of_an_older_attempt_is_applied(evidence: Evidence) -> Iterator[Violation]:
    """Events end attempts in order, and each attempt was ended by the event in its history."""
    attempts = {attempt.key: attempt for attempt in evidence.attempts}
    for task_id, rows in evidence.applied.items():
        ended = [(row, row.key) for row in rows if row.key is not None]
        for (_, before), (row, key) in pairwise(ended):
            if _order(key) < _order(before):
                yield Violation(Kind.STALE_WRITE, f"{row.kind} of {_name(key)} after {_name(before)}", task_id)
        for row, key in ended:
            attempt = attempts.get(key)
            if attempt is None or (attempt.closed_by, attempt.closing_claim) != (row.kind, row.event["claim_id"]):
                yield Violation(Kind.STALE_WRITE, f"{row.kind} of {_name(key)}, which ended by another event", task_id)


def an_attempt_has_one_holder(evidence: Evidence) -> Iterator[Violation]:
    """Every event about an attempt, applied or stale, came from the claim that held it."""
    holder = {attempt.key: attempt.claim_id for attempt in evidence.attempts}
    for row in evidence.history:
        if row.key is not None and row.event["claim_id"] != holder.get(row.key):
            yield Violation(Kind.TWO_HOLDERS, f"{row.kind} of {_name(row.key)} from another claim", row.task_id)


def attempts_follow_one_another(evidence: Evidence) -> Iterator[Violation]:
    """An attempt is issued only after the end of the one before."""
    of_task: defaultdict[UUID, list[AttemptRow]] = defaultdict(list)
    for attempt in evidence.attempts:
        of_task[attempt.key.task_id].append(attempt)
    for task_id, attempts in of_task.items():
        for before, after in pairwise(sorted(attempts, key=lambda attempt: _order(attempt.key))):
            if before.ended_at is None or after.created_at < before.ended_at:
                text = f"{_name(after.key)} was issued while {_name(before.key)} could still run"
                yield Violation(Kind.TWO_HOLDERS, text, task_id)


def every_command_is_applied_once(evidence: Evidence) -> Iterator[Violation]:
    """Each attempt ended once: by one event, or by the request that cancelled or fenced it."""
    rows = (row for rows in evidence.applied.values() for row in rows)
    events = Counter(row.key for row in rows if row.key is not None)
    for attempt in evidence.attempts:
        key, state = attempt.key, attempt.state
        expected = 1 if state in ENDED_BY_EVENT else 0
        if state not in ENDED_BY_EVENT | ENDED_BY_REQUEST:
            yield Violation(Kind.COMMAND, f"{_name(key)} is still {state}", key.task_id)
        elif events[key] != expected:
            yield Violation(Kind.COMMAND, f"{_name(key)} is {state} after {events[key]} events", key.task_id)


def no_artifact_is_missing_or_changed(evidence: Evidence) -> Iterator[Violation]:
    """A completed attempt has a manifest, and every artifact has exactly the files of its manifest."""
    for attempt in evidence.attempts:
        prefix = attempt_prefix(attempt.key)
        if attempt.state == "completed" and prefix not in evidence.manifests:
            yield Violation(Kind.ARTIFACT, f"{prefix} has no manifest", attempt.key.task_id)
    paths_of: defaultdict[str, set[str]] = defaultdict(set)
    for path in evidence.files:
        paths_of[_prefix_of(path, evidence.manifests)].add(path)
    for prefix, manifest in evidence.manifests.items():
        yield from (Violation(Kind.ARTIFACT, text) for text in _damage(prefix, manifest, evidence, paths_of[prefix]))


def all_work_is_finished(evidence: Evidence) -> Iterator[Violation]:
    """The outbox is empty, there are no dead letters, and a fault explains everything unusual."""
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
    all_work_is_finished,
)


def _damage(prefix: str, manifest: Manifest | str, evidence: Evidence, paths: set[str]) -> Iterator[str]:
    if isinstance(manifest, str):
        yield f"the manifest of {prefix} cannot be read: {manifest}"
        return
    listed = {f"{prefix}/{file.name}": file for file in manifest.files}
    for path, file in listed.items():
        stored = evidence.files.get(path)
        if stored is None:
            yield f"{path} is listed in its manifest and is missing"
        elif (stored.size, stored.sha256) != (file.size, file.sha256):
            yield f"{path} has another size or hash than in its manifest"
    yield from (f"{path} is not listed in the manifest of its artifact" for path in sorted(paths - listed.keys()))


def _prefix_of(path: str, manifests: Mapping[str, object]) -> str:
    """The prefix of the artifact of a file: the nearest folder above it with a manifest, or an empty string."""
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
