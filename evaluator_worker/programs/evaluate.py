"""Score a model on dev, in detail for the optimizer, and on the sealed test split, of which only numbers are reported.

`python -m infra.child.program evaluator_worker.programs.evaluate DIR`; DIR/input/ holds `splits/` and the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from contracts.notices import Notice
from evaluator_worker.notices import limit_notices, shortened_notices, unscored_notices
from evaluator_worker.predictions import write_predictions
from evaluator_worker.programs.scoring import Scorer
from evaluator_worker.report import dev_report, test_report
from evaluator_worker.row_results import SEALED, RowResults
from evaluator_worker.rows import dev_rows, test_rows
from evaluator_worker.spec import Result, Spec
from infra.child.memory import memory_errors
from infra.child.program import Job
from infra.models.language_model import load

MIN_PARAMETERS_FOR_THREADS = 20_000_000
"""Models with fewer parameters use one thread, because threads would mostly wait for each other."""


def main(spec: Spec, job: Job) -> Result:
    """Write `dev_report.json`, `dev_predictions.jsonl` and, if there is a test split, `test_report.json`."""
    with memory_errors("a smaller batch may fit", field="batch_size"):
        job.report("loading", 0)
        model, tokenizer = load(spec.model, job)
        if sum(parameter.numel() for parameter in model.parameters()) < MIN_PARAMETERS_FOR_THREADS:
            torch.set_num_threads(1)
        scorer = Scorer(model, tokenizer, spec.metric, spec.options)
        splits = job.input("splits")
        dev, test = scorer.prepare(dev_rows(splits), job, "dev"), scorer.prepare(test_rows(splits), job, SEALED)
        limit = scorer.limit(dev, test)
        results = {"dev": scorer.score(dev, limit, job, "dev")}
        if test.rows or test.unscored:
            results[SEALED] = scorer.score(test, limit, job, SEALED)
    return _write(spec, job.out, results, limit)


def _write(spec: Spec, out: Path, results: Mapping[str, RowResults], limit: int) -> Result:
    dev = dev_report(results["dev"], spec.options, spec.seed)
    write_predictions(out / "dev_predictions.jsonl", results["dev"])
    (out / "dev_report.json").write_text(dev.model_dump_json(indent=1))
    metrics = {f"dev_{name}": value for name, value in dev.metrics.items()}
    notices = tuple(_notices(spec, results, limit))
    if SEALED not in results:
        return Result(dev=dev.score, test=None, metrics=metrics, notices=notices)
    test = test_report(results[SEALED], spec.options, spec.seed)
    (out / "test_report.json").write_text(test.model_dump_json(indent=1))
    metrics |= {f"test_{name}": value for name, value in test.metrics.items()}
    return Result(dev=dev.score, test=test.score, metrics=metrics, notices=notices)


def _notices(spec: Spec, results: Mapping[str, RowResults], limit: int) -> Iterator[Notice]:
    for split, outcomes in results.items():
        yield from unscored_notices(split, outcomes)
        yield from shortened_notices(split, outcomes)
        yield from limit_notices(split, outcomes, limit, chosen=spec.options.max_new_tokens is not None)
