"""What passes between the handlers and the program, as `spec.json` and `result.json`."""

from __future__ import annotations

from pydantic import Field

from contracts.message import Frozen
from contracts.options import OptimizationOptions

CURRENT, SPLITS, REPORT = "current", "splits", "report"
"""Names of a later iteration's inputs; those of the first are `train`, `dev`, `test` and `pool`."""

REQUEST_FIELDS = {"train": "datasetId", "dev": "devDatasetId", "test": "testDatasetId", "pool": "poolDatasetId"}
"""The field of a request that names the dataset behind an input: what an error tells the user to mend."""


class Spec(Frozen):
    """What to optimise, and how."""

    iteration: int = Field(ge=1)
    options: OptimizationOptions
    seed: int
    datasets: dict[str, str] = Field(default_factory=dict)
    """Dataset id of each uploaded input, for errors; empty where the rows of an earlier iteration are the input."""


class Result(Frozen):
    """What the event will say."""

    rows: int = Field(ge=1)
    labels: int = Field(ge=0)
    actions: dict[str, int]
    """Rule to the number of rows that it touched."""
    has_splits: bool
    """Whether the output holds `splits/`, or those of an earlier iteration still stand."""
