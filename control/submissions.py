"""What users ask for, made whole: names are resolved, and the request goes through the machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from contracts.errors import FieldError, InvalidInput
from contracts.http import ContinuousTaskRequest, TaskBody
from contracts.message import derived_id
from contracts.options import StopRules
from contracts.submissions import CreateTask, StartTask, TaskRequest
from contracts.tasks import DatasetRef, DatasetRefs, ModelSource, TaskMode, TaskSpec
from control.applier import Applier
from control.batcher import Batcher
from control.models import resolve_model
from control.store.port import NewTask, Store
from control.task import Task
from infra.settings import Settings

ROLES = {
    "train": "dataset_id",
    "dev": "dev_dataset_id",
    "test": "test_dataset_id",
    "pool": "pool_dataset_id",
}


class Submissions:
    """Creation and requests, alike for HTTP and for the broker."""

    def __init__(self, store: Store, applier: Applier, settings: Settings) -> None:
        self._store = store
        self._applier = applier
        self._settings = settings
        self._creating: Batcher[NewTask, Task] = Batcher(
            self._create_all, size=settings.batch_size, key=lambda new: new.task.task_id
        )

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
        spec = await self._resolve(asked.task)
        digest = hashlib.sha256(asked.task.model_dump_json().encode()).hexdigest()
        task = await self._creating.submit(NewTask(Task(asked.task_id, spec), digest, asked.actor))
        if not asked.task.auto_start or task.version > 1:
            return task
        start = StartTask(
            submission_id=derived_id(asked.submission_id, "start"),
            actor=asked.actor,
            task_id=task.task_id,
            after_seconds=asked.task.start_after_seconds,
        )
        return await self.request(start)

    async def request(self, asked: TaskRequest) -> Task:
        """Do what is asked of a task. Raises TaskNotFound, IllegalTransition, StoreUnavailable."""
        answer = await self._applier.submit(asked, actor=asked.actor, reason=asked.reason)
        return answer.task

    async def _create_all(self, new: Sequence[NewTask]) -> Sequence[Task | Exception]:
        return await self._store.create(new)

    async def _resolve(self, body: TaskBody) -> TaskSpec:
        model = await resolve_model(body.model_name, self._store, self._settings)
        datasets = {role: await self._dataset(body, field) for role, field in ROLES.items()}
        wrong = tuple(found for found in (model, *datasets.values()) if isinstance(found, FieldError))
        if wrong:
            raise InvalidInput(wrong)
        return _spec(body, model, datasets)

    async def _dataset(self, body: TaskBody, field: str) -> DatasetRef | FieldError | None:
        dataset_id: str | None = getattr(body, field)
        if dataset_id is None:
            return None
        found = await self._store.dataset(dataset_id)
        if found is None or found.user_id != body.user_id:
            alias = type(body).model_fields[field].alias or field
            return FieldError(
                field=alias, message=f"user {body.user_id} has no dataset {dataset_id!r}; upload one first"
            )
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
