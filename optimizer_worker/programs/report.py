"""Build `report.json`: counts, slices and label conflicts of one iteration, for a person to read."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from contracts.message import Frozen
from contracts.notices import MAX_NOTICES, Notices
from contracts.options import Arm
from optimizer_worker.similarity.row_texts import compared_answer
from optimizer_worker.spec import Spec
from optimizer_worker.workspace import Workspace

MAX_LISTED = 50
"""Maximum number of conflicts of each kind that are listed; all are counted."""


class SliceRows(Frozen):
    """The rows of one slice; `dev_score` comes from the evaluation report, None if there was none."""

    name: str
    rows: int
    added: int
    quarantined: int
    weight: float
    dev_score: float | None


class Conflict(Frozen):
    """Rows with equal or similar prompts and different answers."""

    prompt: str
    rows: tuple[str, ...]
    answers: tuple[str, ...]
    similarity: float


class OptimizerReport(Frozen):
    """Counts of one iteration; `quarantined` counts all rows in quarantine, `actions` only this iteration's."""

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
    notices: Notices
    probable_wrong_labels: int
    label_conflicts: int
    near_conflicts: int
    conflicts: tuple[Conflict, ...]
    slices: tuple[SliceRows, ...]


def optimizer_report(work: Workspace, spec: Spec) -> OptimizerReport:
    """Return the counts; call it when the rows are final."""
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
        notices=tuple(work.notices[:MAX_NOTICES]),
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
            answers=tuple(sorted({compared_answer(row) for row in group})),
            similarity=1.0,
        )
        for group in islice(work.conflicts, MAX_LISTED)
    ]
    near = [
        Conflict(prompt=pair.prompt, rows=pair.rows, answers=pair.answers, similarity=pair.similarity)
        for pair in islice(work.near_conflicts, MAX_LISTED)
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
