"""What an iteration did to the data, as `report.json`: counts, slices, and the labels a person may look at."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from contracts.message import Frozen
from contracts.options import Arm
from optimizer_worker.spec import Spec
from optimizer_worker.workspace import Workspace

SHOWN = 50
"""Conflicts listed in full; all are counted."""


class SliceRows(Frozen):
    """One category's rows. `dev_score` is the report's, where there was one to answer."""

    name: str
    rows: int
    added: int
    quarantined: int
    weight: float
    dev_score: float | None


class Conflict(Frozen):
    """Rows with one prompt, or nearly one, and several answers."""

    prompt: str
    rows: tuple[str, ...]
    answers: tuple[str, ...]
    similarity: float


class OptimizerReport(Frozen):
    """Counts of one iteration; `quarantined` counts all that lie in quarantine, `actions` this iteration's."""

    iteration: int
    arm: Arm
    rows: int
    labels: int
    dev_rows: int
    test_rows: int
    pool_rows: int
    drawn_rows: int
    quarantined: int
    actions: dict[str, int]
    formats: dict[str, str]
    probable_wrong_labels: int
    label_conflicts: int
    near_conflicts: int
    conflicts: tuple[Conflict, ...]
    slices: tuple[SliceRows, ...]


def optimizer_report(work: Workspace, spec: Spec) -> OptimizerReport:
    """The counts, once the rows are final."""
    return OptimizerReport(
        iteration=spec.iteration,
        arm=spec.options.arm,
        rows=len(work.corpus.rows),
        labels=work.labels,
        dev_rows=len(work.splits.dev),
        test_rows=len(work.splits.test),
        pool_rows=len(work.splits.pool),
        drawn_rows=len(work.drawn),
        quarantined=len(work.corpus.quarantine),
        actions=dict(sorted(work.corpus.actions.items())),
        formats=work.formats,
        probable_wrong_labels=work.wrong_labels,
        label_conflicts=len(work.conflicts),
        near_conflicts=len(work.near_conflicts),
        conflicts=_conflicts(work),
        slices=_slices(work, spec),
    )


def _conflicts(work: Workspace) -> tuple[Conflict, ...]:
    same = [
        Conflict(
            prompt=group[0].prompt,
            rows=tuple(row.id for row in group),
            answers=tuple(sorted({row.response for row in group})),
            similarity=1.0,
        )
        for group in islice(work.conflicts, SHOWN)
    ]
    near = [
        Conflict(prompt=found.prompt, rows=found.rows, answers=found.answers, similarity=found.similarity)
        for found in islice(work.near_conflicts, SHOWN)
    ]
    return (*same, *near)


def _slices(work: Workspace, spec: Spec) -> tuple[SliceRows, ...]:
    rows = Counter(row.slice for row in work.corpus.rows)
    drawn = {row_id for row_id, iteration in work.drawn.items() if iteration == spec.iteration}
    added = Counter(row.slice for row in work.corpus.rows if row.id in drawn)
    quarantined = Counter(item.row.slice for item in work.corpus.quarantine if item.row)
    scores = {part.name: part.value for part in work.report.slices} if work.report else {}
    return tuple(
        SliceRows(
            name=name,
            rows=rows[name],
            added=added[name],
            quarantined=quarantined[name],
            weight=round(work.weights.get(name, 1.0), 4),
            dev_score=scores.get(name),
        )
        for name in sorted({*rows, *quarantined, *scores})
    )
