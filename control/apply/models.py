"""Resolve the name of a model to its location."""

from __future__ import annotations

import re
from pathlib import PurePath
from uuid import UUID

from contracts.errors import FieldError
from contracts.tasks import ModelSource
from control.store.port import Store
from infra.models.hub_ids import HUB_RULE, is_hub_id
from infra.settings import Settings

MODEL_FIELD = "modelName"
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_TASK = re.compile(rf"task:(?P<task>{_UUID})(/(?P<iteration>[1-9]\d{{0,8}}))?")


async def resolve_model(name: str, store: Store, settings: Settings) -> ModelSource | FieldError:
    """The model that `name` means, or what is wrong with the name.

    `task:<id>` is the model of the best iteration of that task, `task:<id>/<n>` that of iteration n.
    """
    name = settings.models.get(name, name)
    if name.startswith("task:"):
        return await _of_task(name, store)
    if PurePath(name).is_absolute():
        return ModelSource(base=f"path:{name}")
    if "/" in name and is_hub_id(name):
        return ModelSource(base=f"hub:{name}", trust_remote_code=settings.allow_remote_code)
    known = ", ".join(sorted(settings.models)) or "none are defined"
    return FieldError(
        field=MODEL_FIELD,
        message=f"expected an absolute path, a hub id (org/name: {HUB_RULE}), task:<task id>, "
        f"or a name that TREADLE_MODELS defines ({known}); got {name!r}",
    )


async def _of_task(name: str, store: Store) -> ModelSource | FieldError:
    match = _TASK.fullmatch(name)
    if match is None:
        message = f"expected task:<task id> or task:<task id>/<iteration>, got {name!r}"
        return FieldError(field=MODEL_FIELD, message=message)
    iteration = match["iteration"]
    model = await store.model(UUID(match["task"]), int(iteration) if iteration else None)
    if model is None:
        message = f"{name!r} has no trained model; check the id and the iteration, or wait until it is trained"
        return FieldError(field=MODEL_FIELD, message=message)
    return model
