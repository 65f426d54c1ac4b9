"""The program's input, `spec.json`, and its output, `result.json`."""

from __future__ import annotations

from pydantic import Field

from contracts.message import Frozen
from contracts.notices import Notices
from contracts.options import OptimizationOptions

CURRENT, SPLITS, REPORT = "current", "splits", "report"
"""Input names of a later iteration; those of the first are `train`, `dev`, `test` and `pool`."""

SEALED = "test"
"""The dataset of which only numbers may be reported: its unreadable lines are counted, not shown."""

REQUEST_FIELDS = {"train": "datasetId", "dev": "devDatasetId", "test": "testDatasetId", "pool": "poolDatasetId"}
"""The request field that names the dataset of each input, for errors that the user can correct."""


class Spec(Frozen):
    """The iteration, its options and the uploaded datasets."""

    iteration: int = Field(ge=1)
    options: OptimizationOptions
    seed: int
    datasets: dict[str, str] = Field(default_factory=dict)
    """Dataset id of each uploaded input, for errors; empty if the input is the output of an earlier iteration."""


class Result(Frozen):
    """The counts for the event."""

    rows: int = Field(ge=1)
    labels: int = Field(ge=0)
    actions: dict[str, int]
    """Number of rows that each rule changed."""
    notices: Notices = ()
    has_splits: bool
    """Whether the output holds `splits/`; if not, those of the first iteration are still used."""
