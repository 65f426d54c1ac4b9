"""The data of one iteration: training rows, splits, drawn rows and the report to use."""

from __future__ import annotations

from dataclasses import dataclass, field

from contracts.notices import Notice
from contracts.report import DevReport
from contracts.rows import Row
from optimizer_worker.corpus import Corpus
from optimizer_worker.operators.conflicts import NearConflict


@dataclass(slots=True)
class Splits:
    """The rows that are not used for training: dev, the sealed test split, and the pool to draw from."""

    dev: list[Row]
    test: list[Row]
    pool: list[Row] = field(default_factory=list)

    @property
    def protected(self) -> dict[str, list[Row]]:
        """The splits whose rows must not appear in the training rows."""
        return {"dev": self.dev, "test": self.test}


@dataclass(slots=True)
class Workspace:
    """The data of one iteration; `drawn` maps a pool row's id to the iteration that drew it."""

    corpus: Corpus
    splits: Splits
    new_splits: bool
    report: DevReport | None = None
    drawn: dict[str, int] = field(default_factory=dict)
    history: bytes = b""
    """The ledger of the earlier iterations, as JSON lines."""
    formats: dict[str, str] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    """What was done with rows, for a person to read; the first `MAX_NOTICES` are reported."""
    conflicts: list[list[Row]] = field(default_factory=list)
    near_conflicts: list[NearConflict] = field(default_factory=list)
    wrong_labels: int = 0
    weights: dict[str, float] = field(default_factory=dict)
    labels: int = 0
