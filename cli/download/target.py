"""What `treadle download` downloads: a dataset, or an iteration of a task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from cli.client import GatewayClient
from contracts.errors import FieldError, InvalidInput

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_TASK = re.compile(rf"(?:task:)?(?P<task>{_UUID})(?:/(?P<iteration>[1-9]\d{{0,8}}))?")


@dataclass(frozen=True, slots=True)
class Target:
    """The path of the list of files in the gateway's API, and a name for the local folder."""

    files: str
    folder: str
    is_iteration: bool


async def find_target(gateway: GatewayClient, text: str) -> Target:
    """The target that `text` names; without an iteration, the task's best one. Raises InvalidInput, RequestRefused."""
    match = _TASK.fullmatch(text)
    if match is None:
        if text.startswith("task:"):
            raise _invalid(f"expected task:<task id> or task:<task id>/<iteration>, got {text!r}")
        return Target(f"/api/datasets/{quote(text, safe='')}/files", text.replace("/", "-"), is_iteration=False)
    task, iteration = match["task"], match["iteration"] or await _best_iteration(gateway, match["task"])
    return Target(f"/api/tasks/{task}/iterations/{iteration}/files", f"{task[:8]}-iteration-{iteration}", True)


async def _best_iteration(gateway: GatewayClient, task_id: str) -> int:
    best = (await gateway.task(task_id)).best_iteration
    if best is None:
        raise _invalid(f"no iteration of this task is evaluated yet; task:{task_id}/1 names the first one")
    return best


def _invalid(message: str) -> InvalidInput:
    return InvalidInput((FieldError(field="TARGET", message=message),))
