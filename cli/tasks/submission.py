"""The request body of a new task, built from a JSON file and from options that override it."""

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
    "answers": ("optimization", "answers"),
    "max_loss": ("optimization", "max_loss"),
    "tidy": ("optimization", "tidy"),
    "merge_spellings": ("optimization", "merge_spellings"),
    "metric": ("evaluation", "metric"),
    "max_new_tokens": ("evaluation", "max_new_tokens"),
    "optimize_limit": ("limits", "optimize_seconds"),
    "train_limit": ("limits", "train_seconds"),
    "evaluate_limit": ("limits", "evaluate_seconds"),
    "stall_limit": ("limits", "stall_seconds"),
}
"""For each option of the command line, the path of its field in the body."""
LOOP_OPTIONS = ("iterations", "threshold", "plateau")
STANDARD, CONTINUOUS = "standard", "continuous"


def body_of(file: Path | None, options: Mapping[str, Any], continuous: bool | None) -> tuple[str, dict[str, Any]]:
    """The mode and the request body. Raises InvalidInput if the file is invalid or file and options contradict."""
    body = _read(file) if file else {}
    named = str(body.pop("mode", STANDARD)).lower()
    if named not in {STANDARD, CONTINUOUS}:
        raise _invalid("mode", f"{named!r} is not a mode; expected STANDARD or CONTINUOUS")
    given = {name: options[name] for name in FIELD_OF if options.get(name) is not None}
    if "start_in" in given:
        given.setdefault("start", True)
    for name, value in given.items():
        _require_finite(value, f"--{name.replace('_', '-')}")
        _set_field(body, FIELD_OF[name], value)
    body.setdefault("user_id", 1)
    body.setdefault("task_name", f"{body.get('model_name', 'task')} on {body.get('dataset_id', 'data')}"[:200])
    for name, value in body.items():
        _require_finite(value, name)
    return _mode(named, given, continuous), body


def _set_field(body: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Set the field at `path`, also if the file has set it."""
    if len(path) > 1:
        body[path[0]] = {**_object(body.get(path[0]), path[0]), path[1]: value}
    else:
        body[path[0]] = value


def _require_finite(value: object, name: str) -> None:
    """Refuse NaN and infinities: Python reads them from JSON and from options, but JSON has no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(name, f"expected a finite number, found {value}")
    if isinstance(value, dict):
        for key, item in value.items():
            _require_finite(item, f"{name}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _require_finite(item, f"{name}.{index}")


def _mode(named: str, given: dict[str, Any], continuous: bool | None) -> str:
    """--continuous or --standard, if given; else CONTINUOUS if an option of the loop is given; else the file's mode."""
    loops = [name for name in LOOP_OPTIONS if name in given]
    if continuous is None:
        return CONTINUOUS if loops else named
    if not continuous and loops:
        raise _invalid(loops[0], "only a continuous task has this option; leave out this option or --standard")
    return CONTINUOUS if continuous else STANDARD


def _read(file: Path) -> dict[str, Any]:
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _invalid(str(file), f"expected a JSON object: {error}") from error
    if not isinstance(body, dict):
        raise _invalid(str(file), f"expected a JSON object, found {type(body).__name__}")
    return {to_snake(name): value for name, value in body.items()}


def _object(value: object, name: str) -> dict[str, Any]:
    """A nested object of the file with snake_case keys, so that an option replaces a field in either spelling."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value or {}
    except ValueError as error:
        raise _invalid(name, f"expected an object, or a string that holds one as JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise _invalid(name, "expected an object")
    return {to_snake(key): item for key, item in parsed.items()}


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput((FieldError(field=field, message=message),))
