"""The evaluator's result: scores with intervals, slices, and, for dev alone, bad cases and suggestions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contracts.message import Frozen
from contracts.options import Metric


class Score(Frozen):
    """A mean over `scored` rows with a 95 % bootstrap interval; rows that could not be scored are counted apart."""

    metric: Metric
    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    scored: int = Field(ge=1)
    unscored: int = Field(default=0, ge=0)


class SliceScore(Frozen):
    """One category's share of the score."""

    name: str
    value: float
    low: float
    high: float
    rows: int


class BadCase(Frozen):
    """A dev row that the model got wrong."""

    row_id: str
    slice: str
    prompt: str
    expected: str
    predicted: str
    value: float


class Confusion(Frozen):
    """`expected` was answered as `predicted`, `rows` times."""

    expected: str
    predicted: str
    rows: int


class Suggestion(Frozen):
    """A structured request to the optimizer: slice X fails, add rows like its bad cases."""

    action: Literal["add_rows", "check_labels"]
    slice: str
    rows: int = Field(ge=0)
    reason: str
    bad_cases: tuple[str, ...] = ()
    """Row ids of dev bad cases that stand for the slice."""


class DevReport(Frozen):
    """All that the optimizer may know. Written as `dev_report.json` in the evaluation's artifact."""

    score: Score
    metrics: dict[str, float]
    slices: tuple[SliceScore, ...] = ()
    bad_cases: tuple[BadCase, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()


class TestReport(Frozen):
    """The sealed test: numbers only. No field here can carry a row or the id of one."""

    __test__ = False  # pytest would collect a class of this name

    score: Score
    metrics: dict[str, float]
