"""Resolve the name of a model to its location."""

from __future__ import annotations

import re
from pathlib import PurePath
from uuid import UUID

from pydantic import ValidationError

from contracts.bounds import cut
from contracts.errors import FieldError
from contracts.tasks import ModelSource
from contracts.wire import field_errors
from control.store.port import Store
from infra.models.hub_ids import HUB_RULE, is_hub_id
from infra.settings import Settings

MODEL_FIELD = "modelName"
MAX_SHOWN = 200
"""Maximum characters of a name in an error."""
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_TASK = re.compile(rf"task:(?P<task>{_UUID})(/(?P<iteration>[1-9]\d{{0,8}}))?")


async def resolve_model(name: str, store: Store, settings: Settings) -> ModelSource | FieldError:
    """The model that `name` means, or what is wrong with the name.

    `task:<id>` is the model of the best iteration of that task, `task:<id>/<n>` that of iteration n.
    """
    name = settings.models.get(name, name)
    try:
        return await _of_task(name, store) if name.startswith("task:") else _of_name(name, settings)
    except ValidationError as error:
        (first, *_) = field_errors(error)
        message = f"{cut(name, MAX_SHOWN)!r} gives a model that exceeds a limit: {first.field}: {first.message}"
        return FieldError(field=MODEL_FIELD, message=message)


def _of_name(name: str, settings: Settings) -> ModelSource | FieldError:
    if PurePath(name).is_absolute():
        return ModelSource(base=f"path:{name}")
    if "/" in name and is_hub_id(name):
        return ModelSource(base=f"hub:{name}")
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
