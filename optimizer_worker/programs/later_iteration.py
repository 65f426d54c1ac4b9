"""Read the data of a later iteration: rows, splits and ledger so far, and the report to use."""

from __future__ import annotations

from pydantic import BaseModel

from contracts.report import DevReport
from infra.child.program import Job
from infra.row_files import read_lines, read_rows
from optimizer_worker.corpus import Corpus
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.spec import CURRENT, REPORT, SPLITS
from optimizer_worker.workspace import Splits, Workspace


class Drawn(BaseModel):
    """A line of `drawn.jsonl`: a pool row's id, and the iteration that drew it."""

    id: str
    iteration: int


def read_previous(job: Job) -> Workspace:
    """Read the output of the previous iteration. Raises BadInput if a file is missing or invalid."""
    current, splits, report = job.input(CURRENT), job.input(SPLITS), job.input(REPORT) / "dev_report.json"
    return Workspace(
        corpus=Corpus(read_rows(current / "train.jsonl"), read_lines(current / "quarantine.jsonl", Quarantined)),
        splits=Splits(**{name: read_rows(splits / f"{name}.jsonl") for name in ("dev", "test", "pool")}),
        new_splits=False,
        report=DevReport.model_validate_json(report.read_bytes()) if report.is_file() else None,
        drawn={drawn.id: drawn.iteration for drawn in read_lines(current / "drawn.jsonl", Drawn)},
        history=(current / "ledger.jsonl").read_bytes(),
    )
