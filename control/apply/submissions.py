"""Requests of users: resolve the names in them, then send them through the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from contracts.errors import FieldError, InvalidInput
from contracts.http import ContinuousTaskRequest, TaskBody
from contracts.message import derived_id
from contracts.options import StopRules
from contracts.submissions import AttemptRequest, CreateTask, FailTask, KickTask, PauseTask, StartTask, TaskRequest
from contracts.tasks import DatasetRef, DatasetRefs, ModelSource, TaskMode, TaskSpec
from control.apply.applier import Applier
from control.apply.batcher import Batcher
from control.apply.models import resolve_model
from control.machine.facts import own_checkpoint
from control.machine.machine import AttemptState
from control.machine.task import Task
from control.store.port import Store
from control.store.values import Dataset, NewTask, StoredTask
from infra.settings import Settings

CACHE_LIMIT = 10_000
"""Number of datasets above which the cache is cleared."""
NEWER_OPTIONS = ("limits",)
"""Fields of a request that an earlier version did not know."""
DATASET_FIELDS = {
    "train": "dataset_id",
    "dev": "dev_dataset_id",
    "test": "test_dataset_id",
    "pool": "pool_dataset_id",
}
"""The field of a request that names the dataset of each role."""


@dataclass(frozen=True, slots=True)
class _PendingTask:
    """A requested task whose model is resolved, but whose datasets are not yet."""

    task_id: UUID
    body: TaskBody
    model: ModelSource | FieldError
    actor: str
    start: StartTask | None

    @property
    def dataset_ids(self) -> set[str]:
        return {name for field in DATASET_FIELDS.values() if (name := getattr(self.body, field)) is not None}


class Submissions:
    """Creates tasks and applies requests to them, for HTTP and for the broker."""

    def __init__(self, store: Store, applier: Applier, settings: Settings) -> None:
        self._store = store
        self._applier = applier
        self._settings = settings
        self._uploaded: dict[str, Dataset] = {}
        """A cache of uploaded datasets. Optimised ones are not cached, because they may be deleted."""
        self._creating: Batcher[_PendingTask, StoredTask] = Batcher(
            "submissions", self._create_all, size=settings.batch_size, key=lambda pending: pending.task_id
        )
        self.tasks = self._creating.tasks

    def start(self) -> None:
        """Start to create tasks."""
        self._creating.start()

    async def stop(self) -> None:
        """Stop; pending calls of `create` are cancelled."""
        await self._creating.stop()

    async def create(self, submission: CreateTask) -> StoredTask:
        """Create a task, and start it if `auto_start` is set; the same submission again returns the same task.

        Raises InvalidInput, SubmissionConflict, StoreUnavailable.
        """
        body = submission.task
        model = await resolve_model(body.model_name, self._store, self._settings)
        start = _start(submission) if body.auto_start else None
        stored = await self._creating.submit(_PendingTask(submission.task_id, body, model, submission.actor, start))
        if start is not None and stored.task.version == 1:  # created by an older version, which started tasks later
            return await self.request(start)
        return stored

    async def request(self, request: TaskRequest) -> StoredTask:
        """Apply a request to a task. Raises TaskNotFound, IllegalTransition, StoreUnavailable."""
        event = await self._with_checkpoint(request) if isinstance(request, AttemptRequest) else request
        result = await self._applier.submit(event, actor=request.actor, reason=request.reason)
        return result.stored

    async def _with_checkpoint(self, request: PauseTask | KickTask | FailTask) -> TaskRequest:
        """The request with the newest checkpoint that the heartbeats of the running attempt named."""
        wait_context = await self._store.wait_context(request.task_id, within=0)
        attempt = wait_context.attempt if wait_context else None
        running = attempt if attempt and attempt.state is AttemptState.RUNNING else None
        checkpoint = own_checkpoint(running.key, running.checkpoint) if running else None
        return request.model_copy(update={"checkpoint": checkpoint})

    async def _create_all(self, batch: Sequence[_PendingTask]) -> Sequence[StoredTask | Exception]:
        """Create a batch with one statement, or two if a dataset is not cached; an invalid task fails alone."""
        datasets = await self._find_datasets({name for pending in batch for name in pending.dataset_ids})
        answers = [self._new_task(pending, datasets) for pending in batch]
        created = iter(await self._applier.create([new for new in answers if isinstance(new, NewTask)]))
        return [next(created) if isinstance(answer, NewTask) else answer for answer in answers]

    async def _find_datasets(self, dataset_ids: AbstractSet[str]) -> Mapping[str, Dataset]:
        cached = {name: self._uploaded[name] for name in dataset_ids & self._uploaded.keys()}
        if len(cached) == len(dataset_ids):
            return cached
        found = await self._store.find_datasets(sorted(dataset_ids - cached.keys()))
        if len(self._uploaded) > CACHE_LIMIT:
            self._uploaded.clear()
        self._uploaded |= {name: dataset for name, dataset in found.items() if not dataset.is_optimized}
        return cached | found

    def _new_task(self, pending: _PendingTask, datasets: Mapping[str, Dataset]) -> NewTask | InvalidInput:
        refs = {role: _dataset(pending.body, field, datasets) for role, field in DATASET_FIELDS.items()}
        errors = tuple(result for result in (pending.model, *refs.values()) if isinstance(result, FieldError))
        if errors:
            return InvalidInput(errors)
        digest = _digest(pending.body)
        task = Task(pending.task_id, _spec(pending.body, pending.model, refs))
        start = self._applier.initial_change(task, pending.start, actor=pending.actor) if pending.start else None
        return NewTask(task, digest, pending.actor, start)


def _digest(body: TaskBody) -> str:
    """Identifies a repeated request, also one that an earlier version has taken, which did not know every option."""
    newer = {name for name in NEWER_OPTIONS if getattr(body, name) == type(body).model_fields[name].default}
    return hashlib.sha256(body.model_dump_json(exclude=newer).encode()).hexdigest()


def _start(submission: CreateTask) -> StartTask:
    """The start of a new task; a repeated submission gives the same start."""
    return StartTask(
        submission_id=derived_id(submission.submission_id, "start"),
        actor=submission.actor,
        task_id=submission.task_id,
        after_seconds=submission.task.start_after_seconds,
    )


def _dataset(body: TaskBody, field: str, datasets: Mapping[str, Dataset]) -> DatasetRef | FieldError | None:
    dataset_id: str | None = getattr(body, field)
    if dataset_id is None:
        return None
    dataset = datasets.get(dataset_id)
    if dataset is None or dataset.user_id != body.user_id:
        alias = type(body).model_fields[field].alias or field
        message = f"expected the id of a dataset of user {body.user_id}, got {dataset_id!r}; upload the dataset first"
        return FieldError(field=alias, message=message)
    return DatasetRef(dataset_id=dataset_id, prefix=dataset.storage_path)


def _spec(
    body: TaskBody,
    model: ModelSource | FieldError,
    datasets: Mapping[str, DatasetRef | FieldError | None],
) -> TaskSpec:
    continuous = isinstance(body, ContinuousTaskRequest)
    return TaskSpec(
        mode=TaskMode.CONTINUOUS if continuous else TaskMode.STANDARD,
        task_name=body.task_name,
        user_id=body.user_id,
        model_name=body.model_name,
        model=model,
        datasets=DatasetRefs(**datasets),
        hyperparameters=body.hyperparameters,
        optimization=body.optimization,
        evaluation=body.evaluation,
        stop=body.stop_rules() if isinstance(body, ContinuousTaskRequest) else StopRules(max_iterations=1),
        seed=body.seed,
        max_failures=body.max_failures,
        limits=body.limits,
    )
