"""Make the data better: clean it, take out what repeats, contradicts or leaks, and answer the report with new rows.

`python -m infra.child.program optimizer_worker.programs.optimize DIR`; DIR/input/ holds `train/` and, if given,
`dev/`, `test/` and `pool/`; or, from the second iteration on, `current/`, `splits/` and `report/`.
"""

from __future__ import annotations

from contracts.options import Arm
from infra.child.program import Job, Stopped
from infra.errors import BadInput
from optimizer_worker.feedback.drawing import buy, draw
from optimizer_worker.feedback.weighting import reweight, slice_weights
from optimizer_worker.operators.conflicts import conflict_verdicts, label_conflicts, near_conflicts
from optimizer_worker.operators.decontamination import contaminated
from optimizer_worker.operators.duplicates import exact_duplicates, near_duplicates
from optimizer_worker.operators.labels import looks_like_classification, restored_labels, wrong_labels
from optimizer_worker.programs.first_iteration import read_uploads
from optimizer_worker.programs.later_iteration import read_earlier
from optimizer_worker.programs.output import write
from optimizer_worker.spec import REQUEST_FIELDS, Result, Spec
from optimizer_worker.workspace import Workspace


def main(spec: Spec, job: Job) -> Result:
    """Write the optimised rows with their ledger. Raises BadInput where no rows are left to train on."""
    work = read_uploads(spec, job) if spec.datasets else read_earlier(job)
    steps = (deduplicate, settle_conflicts, check_labels, decontaminate, answer_report, weigh)
    for step in job.track(steps, "optimizing", len(steps)):
        if job.stop.is_set():
            raise Stopped
        step(work, spec)
    if work.new_splits:
        work.corpus.keep()
    return write(work, spec, job.out)


def deduplicate(work: Workspace, spec: Spec) -> None:
    """Drop rows that repeat another's prompt and answer."""
    work.corpus.apply(exact_duplicates(work.corpus.rows))
    work.corpus.apply(near_duplicates(work.corpus.rows, spec.options.near_duplicate))


def settle_conflicts(work: Workspace, spec: Spec) -> None:
    """Report prompts with several answers, and quarantine them on request."""
    work.conflicts = label_conflicts(work.corpus.rows)
    if spec.options.quarantine_conflicts:
        work.corpus.apply(conflict_verdicts(work.conflicts))


def check_labels(work: Workspace, spec: Spec) -> None:
    """Where answers are labels: quarantine the probably wrong ones, and take back those that prove right."""
    rows, trusted = work.corpus.rows, work.splits.dev
    if not looks_like_classification(rows):
        return
    work.near_conflicts = near_conflicts(rows, spec.options.near_duplicate)
    doubted = [
        item.row for item in work.corpus.quarantine if item.row and item.rule in ("wrong_label", "label_conflict")
    ]
    wrong = wrong_labels(rows, trusted, spec.seed)
    work.wrong_labels = len(wrong)
    if spec.options.quarantine_wrong_labels:
        work.corpus.apply(wrong)
    if doubted and spec.iteration > 1:
        work.corpus.release(restored_labels(doubted, work.corpus.rows, trusted))


def decontaminate(work: Workspace, spec: Spec) -> None:
    """Drop rows that give a dev or test row away."""
    work.corpus.apply(contaminated(work.corpus.rows, work.splits.protected, spec.options.near_duplicate))
    if not work.corpus.rows:
        counts = ", ".join(f"{rule} {count}" for rule, count in sorted(work.corpus.actions.items()))
        raise BadInput(
            f"no rows are left to train on; rows touched by each rule: {counts}; give training rows that do not stand "
            "in dev or test, or a near copy of them, and that have one answer for each prompt",
            field=REQUEST_FIELDS["train"],
        )


def answer_report(work: Workspace, spec: Spec) -> None:
    """Draw rows from the pool toward the weak slices."""
    buy(work, draw(work, spec), spec)


def weigh(work: Workspace, spec: Spec) -> None:
    """Let the rows of weak slices weigh more."""
    if work.report is None or spec.options.arm is Arm.NONE:
        return
    work.weights = slice_weights(work.report, spec.options.max_slice_weight)
    rows, verdicts = reweight(work.corpus.rows, work.weights)
    work.corpus.replace(rows)
    work.corpus.apply(verdicts)
