"""The evaluator's result: scores with intervals; for dev also slices, bad cases and suggestions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contracts.bounds import Count
from contracts.message import Frozen
from contracts.options import Metric


class Score(Frozen):
    """The mean over `scored` rows with its 95 % bootstrap interval; `unscored` counts rows that could not be scored."""

    metric: Metric
    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    scored: int = Field(ge=1, lt=2**63)
    unscored: Count = 0


class SliceScore(Frozen):
    """The score of one category of rows, with its interval."""

    name: str
    value: float
    low: float
    high: float
    rows: int


class BadCase(Frozen):
    """A dev row that the model answered wrongly."""

    row_id: str
    slice: str
    prompt: str
    expected: str
    predicted: str
    value: float


class Confusion(Frozen):
    """The model answered `predicted` instead of `expected` for this many rows."""

    expected: str
    predicted: str
    rows: int


class Suggestion(Frozen):
    """What the optimizer should do about one weak slice: add rows like its bad cases, or check labels."""

    action: Literal["add_rows", "check_labels"]
    slice: str
    rows: int = Field(ge=0)
    reason: str
    bad_cases: tuple[str, ...] = ()
    """Row ids of dev bad cases that are examples of the slice."""


class DevReport(Frozen):
    """The only results that the optimizer may read; stored as `dev_report.json` in the evaluation's artifact."""

    score: Score
    metrics: dict[str, float]
    slices: tuple[SliceScore, ...] = ()
    bad_cases: tuple[BadCase, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()


class TestReport(Frozen):
    """The results on the sealed test split: only numbers. No field can hold a row or a row id."""

    __test__ = False  # otherwise pytest collects a class of this name

    score: Score
    metrics: dict[str, float]
