"""Run the program that checks rows, as a child process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from contracts.checks import CheckReport
from contracts.errors import TreadleError
from contracts.message import Frozen
from contracts.options import OptimizationOptions
from infra.child.outcome import ExitKind
from infra.child.process import ChildProcess
from infra.child.progress import ProgressLine
from infra.models.model_inputs import ModelLocation

STOP_TIMEOUT = 3.0
"""Seconds for which the program may take to stop if the check is cancelled."""


class CheckSpec(Frozen):
    """The program's input: the datasets below `input/`, and the options that decide what happens to the rows."""

    datasets: dict[str, str]
    """Dataset id of each input: `train` and, if given, `dev` and `test`."""
    options: OptimizationOptions
    seed: int
    model: ModelLocation | None = None
    max_length: int = Field(default=1024, ge=8)


class CheckFailed(TreadleError):
    """The program that checks rows crashed."""


async def run_check(module: str, folder: Path, spec: CheckSpec, on_step: Callable[[ProgressLine], None]) -> CheckReport:
    """Run the program `module` in `folder`, whose `input/` has the datasets. Raises CheckFailed if it crashes."""
    (folder / "spec.json").write_text(spec.model_dump_json())
    child = await ChildProcess.start(module, folder, STOP_TIMEOUT)
    end = await child.run(folder, on_step)
    if end.outcome is not ExitKind.SUCCEEDED:
        raise CheckFailed(end.failure.message if end.failure else "the check was stopped")
    return CheckReport.model_validate_json((folder / "result.json").read_bytes())
