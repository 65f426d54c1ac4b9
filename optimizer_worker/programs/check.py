"""Report what the optimizer would do with rows, without a task: what would be read, kept and set aside, and why.

`python -m infra.child.program optimizer_worker.programs.check DIR`; DIR/input/ holds `train/` and, if given, `dev/` and
`test/`. If the phase would fail, the report says why.
"""

from __future__ import annotations

from itertools import islice

from contracts.checks import MAX_SET_ASIDE, CheckReport, SetAside
from contracts.notices import MAX_NOTICES
from infra.child.program import Job
from infra.errors import PhaseError
from infra.row_check import CheckSpec
from optimizer_worker.ledger import RuleDecision
from optimizer_worker.programs.first_iteration import read_uploads
from optimizer_worker.programs.optimize import CLEANING, run_steps
from optimizer_worker.spec import SEALED
from optimizer_worker.spec import Spec as OptimizerSpec
from optimizer_worker.workspace import Workspace

Spec = CheckSpec


def main(spec: CheckSpec, job: Job) -> CheckReport:
    """Read and clean the rows as the first iteration of a task would, and return what happened to them."""
    optimizer = OptimizerSpec(iteration=1, options=spec.options, seed=spec.seed, datasets=spec.datasets)
    try:
        work = read_uploads(optimizer, job)
        run_steps(CLEANING, work, optimizer, job)
        if spec.model is not None:
            # Only a check with a model pays for the import of torch.
            from optimizer_worker.programs.rendering import rendering_notices

            rows = {"train": work.corpus.rows, "dev": work.splits.dev, SEALED: work.splits.test}
            work.notices += rendering_notices(spec.model, spec.max_length, rows, job)
    except PhaseError as error:
        return CheckReport(problem=str(error), field=error.field)
    return _report(work)


def _report(work: Workspace) -> CheckReport:
    removed = (decision for decision in work.corpus.ledger if decision.action.removes)
    return CheckReport(
        formats=work.formats,
        kept=len(work.corpus.rows),
        dev=len(work.splits.dev),
        test=len(work.splits.test),
        rules=dict(sorted(work.corpus.actions.items())),
        set_aside=tuple(islice(map(_set_aside, removed), MAX_SET_ASIDE)),
        notices=tuple(work.notices[:MAX_NOTICES]),
    )


def _set_aside(decision: RuleDecision) -> SetAside:
    assert not decision.row.startswith(f"{SEALED}/"), "the ledger has no rows of the sealed split"
    repeats = f"repeats {decision.parent}" if decision.parent else ""
    return SetAside(place=decision.row, rule=decision.rule, reason=decision.reason or repeats)
