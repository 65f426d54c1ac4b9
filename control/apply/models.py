"""From the name of a model to where it lies."""

from __future__ import annotations

import re
from pathlib import PurePath
from uuid import UUID

from contracts.errors import FieldError
from contracts.tasks import ModelSource
from control.store.port import Store
from infra.settings import Settings

FIELD = "modelName"
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_TASK = re.compile(rf"task:(?P<task>{_UUID})(/(?P<iteration>[1-9]\d{{0,8}}))?")
_HUB = re.compile(r"[\w.-]+/[\w.-]+")


async def resolve_model(name: str, store: Store, settings: Settings) -> ModelSource | FieldError:
    """The model that `name` means, or what is wrong with it.

    `task:<id>` is the best iteration of that task, `task:<id>/<n>` its iteration n.
    """
    name = settings.models.get(name, name)
    if name.startswith("task:"):
        return await _of_task(name, store)
    if PurePath(name).is_absolute():
        return ModelSource(base=f"path:{name}")
    if _HUB.fullmatch(name):
        return ModelSource(base=f"hub:{name}", trust_remote_code=settings.allow_remote_code)
    known = ", ".join(sorted(settings.models)) or "none is"
    return FieldError(
        field=FIELD,
        message=f"{name!r} is no absolute path, no hub id (org/name), no task:<id>, "
        f"and no name defined in TREADLE_MODELS ({known} defined there)",
    )


async def _of_task(name: str, store: Store) -> ModelSource | FieldError:
    match = _TASK.fullmatch(name)
    if match is None:
        return FieldError(field=FIELD, message=f"{name!r}: expected task:<task id> or task:<task id>/<iteration>")
    iteration = match["iteration"]
    model = await store.model(UUID(match["task"]), int(iteration) if iteration else None)
    if model is None:
        return FieldError(field=FIELD, message=f"{name!r} has trained no model; wait until that task has")
    return model
