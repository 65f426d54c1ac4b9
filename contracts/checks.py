"""A check of rows without a task: what would be read, kept and set aside, and why."""

from __future__ import annotations

from pydantic import Field, StrictInt

from contracts.http import DatasetId, View
from contracts.notices import Notice
from contracts.options import OptimizationOptions, Options
from contracts.tasks import ModelName

MAX_SET_ASIDE = 200
"""Maximum number of set-aside rows that a report lists; all are counted."""


class CheckRequest(Options):
    """Body of `POST /api/datasets/{id}/check`: the fields of a task that decide what happens to its rows."""

    dev_dataset_id: DatasetId | None = None
    test_dataset_id: DatasetId | None = None
    model_name: ModelName | None = None
    """As in a task; the rows are then rendered with the model's tokenizer and chat template."""
    optimization: OptimizationOptions = OptimizationOptions()
    seed: StrictInt = Field(default=1, ge=0, lt=2**31)
    max_length: StrictInt = Field(default=1024, ge=8, le=1_048_576)
    """Tokens of one row, as in the hyper-parameters; used with a model only."""


class SetAside(View):
    """A row, or a line, that would not be trained on; rows of the sealed test split are counted only."""

    place: str
    """The row's id, e.g. `train/rows.csv:17`."""
    rule: str
    reason: str


class CheckReport(View):
    """What would happen to the rows of a dataset. If the phase would fail, `problem` says why."""

    formats: dict[str, str] = Field(default_factory=dict)
    """Name of the format of each file."""
    kept: int = 0
    """Rows that would be trained on."""
    dev: int = 0
    test: int = 0
    rules: dict[str, int] = Field(default_factory=dict)
    """Number of rows to which each rule would be applied."""
    set_aside: tuple[SetAside, ...] = ()
    notices: tuple[Notice, ...] = ()
    problem: str | None = None
    field: str | None = None
    """The request field, or the place, to correct."""
