"""A later iteration's material: the rows, splits and ledger so far, and the report that is to be answered."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from contracts.report import DevReport
from contracts.rows import Row
from infra.errors import BadInput
from infra.program import Job
from optimizer_worker.corpus import Corpus
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.spec import CURRENT, REPORT, SPLITS
from optimizer_worker.workspace import Splits, Workspace

M = TypeVar("M", bound=BaseModel)


def read_earlier(job: Job) -> Workspace:
    """Read what the iteration before wrote. Raises BadInput where a file is missing or not as it was written."""
    current, splits, report = job.input(CURRENT), job.input(SPLITS), job.input(REPORT) / "dev_report.json"
    drawn = (orjson.loads(line) for line in _lines(current / "drawn.jsonl"))
    return Workspace(
        corpus=Corpus(_read(current / "train.jsonl", Row), _read(current / "quarantine.jsonl", Quarantined)),
        splits=Splits(**{name: _read(splits / f"{name}.jsonl", Row) for name in ("dev", "test", "pool")}),
        new_splits=False,
        report=DevReport.model_validate_json(report.read_bytes()) if report.is_file() else None,
        drawn={line["id"]: line["iteration"] for line in drawn},
        history=(current / "ledger.jsonl").read_bytes(),
    )


def _read(path: Path, model: type[M]) -> list[M]:
    try:
        return [model.model_validate_json(line) for line in _lines(path)]
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        raise BadInput(f"{path.name} is not as the optimizer writes it: {problem['msg']}", field=path.name) from None


def _lines(path: Path) -> list[bytes]:
    if not path.is_file():
        raise BadInput(f"{path.name} is missing from the earlier iteration's artifact", field=path.name)
    return path.read_bytes().splitlines()
