"""Improve the data: clean it, remove duplicates, conflicts and leaks, and draw new rows in answer to the report.

`python -m infra.child.program optimizer_worker.programs.optimize DIR`; DIR/input/ holds `train/` and, if given,
`dev/`, `test/` and `pool/`; or, from the second iteration on, `current/`, `splits/` and `report/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from contracts.options import Answers, Arm
from infra.child.program import Job, Stopped
from infra.errors import BadInput
from optimizer_worker.feedback.drawing import add_drawn, draw
from optimizer_worker.feedback.weighting import reweight, slice_weights
from optimizer_worker.operators.answers import kind_of_answers
from optimizer_worker.operators.conflicts import conflict_decisions, label_conflicts, near_conflicts
from optimizer_worker.operators.decontamination import contaminated
from optimizer_worker.operators.duplicates import exact_duplicates, near_duplicates
from optimizer_worker.operators.labels import can_be_checked, restored_labels, wrong_labels
from optimizer_worker.operators.spellings import merged_spellings, spelling_notice
from optimizer_worker.programs.first_iteration import read_uploads
from optimizer_worker.programs.later_iteration import read_previous
from optimizer_worker.programs.output import write
from optimizer_worker.programs.text_models import LinearClassifier, word_vectors
from optimizer_worker.spec import REQUEST_FIELDS, Result, Spec
from optimizer_worker.workspace import Workspace

CLASSIFIER = LinearClassifier()
Step = Callable[[Workspace, Spec], None]


def main(spec: Spec, job: Job) -> Result:
    """Write the optimised rows with their ledger.

    Raises BadInput if no rows are left to train on, or if a rule would remove more rows than `max_loss` allows.
    """
    work = read_uploads(spec, job) if spec.datasets else read_previous(job)
    run_steps((*CLEANING, draw_from_pool, weight_slices), work, spec, job)
    if work.new_splits:
        work.corpus.keep()
    return write(work, spec, job.out)


def run_steps(steps: Sequence[Step], work: Workspace, spec: Spec, job: Job) -> None:
    """Run the steps in order. Raises Stopped between two steps if a stop is requested."""
    for step in job.track(steps, "optimizing", len(steps)):
        if job.stop.is_set():
            raise Stopped
        step(work, spec)


def deduplicate(work: Workspace, spec: Spec) -> None:
    """Drop rows that repeat another row's prompt and answer."""
    work.corpus.apply(exact_duplicates(work.corpus.rows))
    work.corpus.apply(near_duplicates(work.corpus.rows, spec.options.near_duplicate), spec.options.max_loss)


def decide_answers(work: Workspace, spec: Spec) -> None:
    """Decide whether the answers are labels, and report the labels in several spellings, or merge them on request."""
    work.answers, decision = kind_of_answers(work.corpus.rows, spec.options.answers)
    work.notices.append(decision)
    if work.answers is not Answers.LABELS:
        return
    if spec.options.merge_spellings:
        rows, decisions = merged_spellings(work.corpus.rows)
        work.corpus.replace(rows)
        work.corpus.apply(decisions)
    elif spellings := spelling_notice(work.corpus.rows):
        work.notices.append(spellings)


def check_conflicts(work: Workspace, spec: Spec) -> None:
    """Report prompts with several labels, and quarantine their rows if the options say so."""
    if work.answers is not Answers.LABELS:
        return
    work.conflicts = label_conflicts(work.corpus.rows)
    if spec.options.quarantine_conflicts:
        work.corpus.apply(conflict_decisions(work.conflicts), spec.options.max_loss)


def check_labels(work: Workspace, spec: Spec) -> None:
    """Quarantine rows with probably wrong labels, and release those confirmed later, if the answers are labels."""
    rows, trusted = work.corpus.rows, work.splits.dev
    if work.answers is not Answers.LABELS or not can_be_checked(rows):
        return
    work.near_conflicts = near_conflicts(rows, spec.options.near_duplicate)
    quarantined = [
        item.row for item in work.corpus.quarantine if item.row and item.rule in ("wrong_label", "label_conflict")
    ]
    wrong = wrong_labels(rows, trusted, spec.seed, CLASSIFIER)
    work.wrong_labels = len(wrong)
    if spec.options.quarantine_wrong_labels:
        work.corpus.apply(wrong, spec.options.max_loss)
    if quarantined and spec.iteration > 1:
        work.corpus.release(restored_labels(quarantined, work.corpus.rows, trusted, CLASSIFIER))


def decontaminate(work: Workspace, spec: Spec) -> None:
    """Drop rows that match a dev or test row. Raises BadInput if no rows are left."""
    leaks = contaminated(work.corpus.rows, work.splits.protected, spec.options.near_duplicate)
    work.corpus.apply(leaks, spec.options.max_loss)
    if not work.corpus.rows:
        counts = ", ".join(f"{rule} {count}" for rule, count in sorted(work.corpus.actions.items()))
        raise BadInput(
            f"no rows are left to train on; rows touched by each rule: {counts}; give training rows that are not "
            "in dev or test, nor near copies of such rows, and that have only one answer for each prompt",
            field=REQUEST_FIELDS["train"],
        )


CLEANING: tuple[Step, ...] = (deduplicate, decide_answers, check_conflicts, check_labels, decontaminate)
"""The steps that remove rows, in order."""


def draw_from_pool(work: Workspace, spec: Spec) -> None:
    """Draw rows from the pool for the weak slices."""
    add_drawn(work, draw(work, spec, word_vectors), spec)


def weight_slices(work: Workspace, spec: Spec) -> None:
    """Give the rows of weak slices more weight in training."""
    if work.report is None or spec.options.arm is Arm.NONE:
        return
    work.weights = slice_weights(work.report, spec.options.max_slice_weight)
    rows, decisions = reweight(work.corpus.rows, work.weights)
    work.corpus.replace(rows)
    work.corpus.apply(decisions)
