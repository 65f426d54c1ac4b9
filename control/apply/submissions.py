"""What users ask for, made whole: names are resolved, and the request goes through the machine."""

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
from control.machine.machine import RunState
from control.machine.task import Task
from control.store.port import Dataset, NewTask, Store
from infra.settings import Settings

REMEMBERED = 10_000
"""Datasets."""
ROLES = {
    "train": "dataset_id",
    "dev": "dev_dataset_id",
    "test": "test_dataset_id",
    "pool": "pool_dataset_id",
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """A task that is asked for, its model's name looked up, its datasets' not yet."""

    task_id: UUID
    body: TaskBody
    model: ModelSource | FieldError
    actor: str
    start: StartTask | None

    @property
    def dataset_ids(self) -> set[str]:
        return {name for field in ROLES.values() if (name := getattr(self.body, field)) is not None}


class Submissions:
    """Creation and requests, alike for HTTP and for the broker."""

    def __init__(self, store: Store, applier: Applier, settings: Settings) -> None:
        self._store = store
        self._applier = applier
        self._settings = settings
        self._uploaded: dict[str, Dataset] = {}
        """Datasets that were asked for: uploaded ones never change and never go, as optimised ones may."""
        self._creating: Batcher[_Asked, Task] = Batcher(
            "submissions", self._create_all, size=settings.batch_size, key=lambda asked: asked.task_id
        )
        self.tasks = self._creating.tasks

    def start(self) -> None:
        """Begin to create."""
        self._creating.start()

    async def stop(self) -> None:
        """Stop; what waits is cancelled."""
        await self._creating.stop()

    async def create(self, asked: CreateTask) -> Task:
        """Create a task, and start it where asked. Raises InvalidInput, SubmissionConflict, StoreUnavailable.

        The same submission again gives the same task.
        """
        model = await resolve_model(asked.task.model_name, self._store, self._settings)
        start = _start(asked) if asked.task.auto_start else None
        task = await self._creating.submit(_Asked(asked.task_id, asked.task, model, asked.actor, start))
        if start is not None and task.version == 1:  # it was there, from a time when the start came afterwards
            return await self.request(start)
        return task

    async def request(self, asked: TaskRequest) -> Task:
        """Do what is asked of a task. Raises TaskNotFound, IllegalTransition, StoreUnavailable."""
        known = await self._with_checkpoint(asked) if isinstance(asked, AttemptRequest) else asked
        answer = await self._applier.submit(known, actor=asked.actor, reason=asked.reason)
        return answer.task

    async def _with_checkpoint(self, asked: PauseTask | KickTask | FailTask) -> TaskRequest:
        """The request with the checkpoint that the running attempt's heartbeats named last, to go on from."""
        standing = await self._store.standing(asked.task_id, within=0)
        run = standing.run if standing else None
        checkpoint = run.checkpoint if run and run.state is RunState.RUNNING else None
        return asked.model_copy(update={"checkpoint": checkpoint})

    async def _create_all(self, batch: Sequence[_Asked]) -> Sequence[Task | Exception]:
        """One statement a batch, or two where a dataset is not known yet. A refusal is its own submitter's alone."""
        there = await self._found({name for asked in batch for name in asked.dataset_ids})
        answers = [self._new_task(asked, there) for asked in batch]
        created = iter(await self._applier.create([new for new in answers if isinstance(new, NewTask)]))
        return [next(created) if isinstance(answer, NewTask) else answer for answer in answers]

    async def _found(self, dataset_ids: AbstractSet[str]) -> Mapping[str, Dataset]:
        known = {name: self._uploaded[name] for name in dataset_ids & self._uploaded.keys()}
        if len(known) == len(dataset_ids):
            return known
        found = await self._store.find_datasets(sorted(dataset_ids - known.keys()))
        if len(self._uploaded) > REMEMBERED:
            self._uploaded.clear()
        self._uploaded |= {name: dataset for name, dataset in found.items() if not dataset.is_optimized}
        return known | found

    def _new_task(self, asked: _Asked, there: Mapping[str, Dataset]) -> NewTask | InvalidInput:
        datasets = {role: _dataset(asked.body, field, there) for role, field in ROLES.items()}
        wrong = tuple(found for found in (asked.model, *datasets.values()) if isinstance(found, FieldError))
        if wrong:
            return InvalidInput(wrong)
        digest = hashlib.sha256(asked.body.model_dump_json().encode()).hexdigest()
        task = Task(asked.task_id, _spec(asked.body, asked.model, datasets))
        start = self._applier.first(task, asked.start, actor=asked.actor) if asked.start else None
        return NewTask(task, digest, asked.actor, start)


def _start(asked: CreateTask) -> StartTask:
    """The start that is asked for with a task, the same at every try."""
    return StartTask(
        submission_id=derived_id(asked.submission_id, "start"),
        actor=asked.actor,
        task_id=asked.task_id,
        after_seconds=asked.task.start_after_seconds,
    )


def _dataset(body: TaskBody, field: str, there: Mapping[str, Dataset]) -> DatasetRef | FieldError | None:
    dataset_id: str | None = getattr(body, field)
    if dataset_id is None:
        return None
    found = there.get(dataset_id)
    if found is None or found.user_id != body.user_id:
        alias = type(body).model_fields[field].alias or field
        return FieldError(field=alias, message=f"user {body.user_id} has no dataset {dataset_id!r}; upload one first")
    return DatasetRef(dataset_id=dataset_id, prefix=found.storage_path)


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
    )
