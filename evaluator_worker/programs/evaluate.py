"""Score a model on dev, in detail for the optimizer, and on the sealed test split, of which only numbers are reported.

`python -m infra.child.program evaluator_worker.programs.evaluate DIR`; DIR/input/ holds `splits/` and the model.
"""

from __future__ import annotations

from pathlib import Path

import torch

from evaluator_worker.predictions import write_predictions
from evaluator_worker.programs.scoring import Scorer
from evaluator_worker.report import dev_report, test_report
from evaluator_worker.row_results import RowResults
from evaluator_worker.rows import dev_rows, test_rows
from evaluator_worker.spec import Result, Spec
from infra.child.memory import memory_errors
from infra.child.program import Job
from infra.errors import PhaseError
from infra.models.language_model import load

MIN_PARAMETERS_FOR_THREADS = 20_000_000
"""Models with fewer parameters use one thread, because threads would mostly wait for each other."""


def main(spec: Spec, job: Job) -> Result:
    """Write `dev_report.json`, `dev_predictions.jsonl` and, if there is a test split, `test_report.json`."""
    with memory_errors("a smaller batch may fit", field="batch_size"):
        model, tokenizer = load(spec.model, job)
        if sum(parameter.numel() for parameter in model.parameters()) < MIN_PARAMETERS_FOR_THREADS:
            torch.set_num_threads(1)
        scorer = Scorer(model, tokenizer, spec.metric, spec.options)
        splits = job.input("splits")
        dev = scorer.score(dev_rows(splits), job, "dev")
        test = _score_sealed(scorer, splits, job)
    return _write(spec, job.out, dev, test)


def _score_sealed(scorer: Scorer, splits: Path, job: Job) -> RowResults | None:
    """Return the results of the test split, or None if there is none; errors lose their text, which may quote a row."""
    rows = test_rows(splits)
    try:
        return scorer.score(rows, job, "test") if rows else None
    except PhaseError as error:
        raise type(error)(
            "a row of the sealed test split could not be scored; the reason is not shown, as it may quote the row",
            field="test",
        ) from None


def _write(spec: Spec, out: Path, dev: RowResults, test: RowResults | None) -> Result:
    about_dev = dev_report(dev, spec.options, spec.seed)
    write_predictions(out / "dev_predictions.jsonl", dev)
    (out / "dev_report.json").write_text(about_dev.model_dump_json(indent=1))
    metrics = {f"dev_{name}": value for name, value in about_dev.metrics.items()}
    if test is None:
        return Result(dev=about_dev.score, test=None, metrics=metrics)
    about_test = test_report(test, spec.options, spec.seed)
    (out / "test_report.json").write_text(about_test.model_dump_json(indent=1))
    metrics |= {f"test_{name}": value for name, value in about_test.metrics.items()}
    return Result(dev=about_dev.score, test=about_test.score, metrics=metrics)
