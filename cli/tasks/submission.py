"""The body of a new task, made of a JSON file and of options that lie on top of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_snake

from contracts.errors import FieldError, InvalidInput

FIELD_OF = {
    "model": ("model_name",),
    "dataset": ("dataset_id",),
    "name": ("task_name",),
    "dev": ("dev_dataset_id",),
    "test": ("test_dataset_id",),
    "pool": ("pool_dataset_id",),
    "iterations": ("max_iterations",),
    "threshold": ("performance_threshold",),
    "plateau": ("plateau_iterations",),
    "seed": ("seed",),
    "start": ("auto_start",),
    "start_in": ("start_after_seconds",),
    "user": ("user_id",),
    "stage": ("hyperparameters", "stage"),
    "method": ("hyperparameters", "method"),
    "learning_rate": ("hyperparameters", "learning_rate"),
    "epochs": ("hyperparameters", "epochs"),
    "arm": ("optimization", "arm"),
    "label_budget": ("optimization", "label_budget"),
    "metric": ("evaluation", "metric"),
}
"""Where an option of the command line stands in the body."""
LOOP_OPTIONS = ("iterations", "threshold", "plateau")
STANDARD, CONTINUOUS = "standard", "continuous"


def body_of(file: Path | None, options: Mapping[str, Any], continuous: bool | None) -> tuple[str, dict[str, Any]]:
    """The mode and the body to be sent. Raises InvalidInput where the two do not go together."""
    body = _read(file) if file else {}
    named = str(body.pop("mode", STANDARD)).lower()
    if named not in {STANDARD, CONTINUOUS}:
        raise _refused("mode", f"{named!r} is not a mode; expected STANDARD or CONTINUOUS")
    given = {name: options[name] for name in FIELD_OF if options.get(name) is not None}
    if "start_in" in given:
        given.setdefault("start", True)
    for name, value in given.items():
        _require_finite(value, f"--{name.replace('_', '-')}")
        _lay(body, FIELD_OF[name], value)
    body.setdefault("user_id", 1)
    body.setdefault("task_name", f"{body.get('model_name', 'task')} on {body.get('dataset_id', 'data')}"[:200])
    for name, value in body.items():
        _require_finite(value, name)
    return _mode(named, given, continuous), body


def _lay(body: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Put a value on top of what the file says."""
    if len(path) > 1:
        body[path[0]] = {**_object(body.get(path[0]), path[0]), path[1]: value}
    else:
        body[path[0]] = value


def _require_finite(value: object, name: str) -> None:
    """Python reads NaN and infinities from JSON and from options; JSON cannot say them."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(name, f"expected a finite number, found {value}")
    if isinstance(value, dict):
        for key, item in value.items():
            _require_finite(item, f"{name}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _require_finite(item, f"{name}.{index}")


def _mode(named: str, given: dict[str, Any], continuous: bool | None) -> str:
    """What was asked for explicitly; else what the file says; an option of the loop asks for the loop."""
    loops = [name for name in LOOP_OPTIONS if name in given]
    if continuous is None:
        return CONTINUOUS if loops else named
    if not continuous and loops:
        raise _refused(loops[0], "only a continuous task loops; leave --standard or this option out")
    return CONTINUOUS if continuous else STANDARD


def _read(file: Path) -> dict[str, Any]:
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _refused(str(file), f"expected a JSON object: {error}") from error
    if not isinstance(body, dict):
        raise _refused(str(file), f"expected a JSON object, found {type(body).__name__}")
    return {to_snake(name): value for name, value in body.items()}


def _object(value: object, name: str) -> dict[str, Any]:
    """A nested object of the file in snake_case, so that an option replaces it whatever its spelling."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value or {}
    except ValueError as error:
        raise _refused(name, f"expected an object, or a string that holds one as JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise _refused(name, "expected an object")
    return {to_snake(key): item for key, item in parsed.items()}


def _refused(field: str, message: str) -> InvalidInput:
    return InvalidInput((FieldError(field=field, message=message),))
