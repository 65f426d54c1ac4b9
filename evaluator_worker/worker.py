"""Turn an `EvaluateModel` command into a plan for the program, and its result into `ModelEvaluated`."""

from __future__ import annotations

from contracts.commands import EvaluateModel
from contracts.events import ModelEvaluated
from contracts.tasks import Phase
from evaluator_worker.spec import Result, Spec
from infra.models.model_inputs import model_inputs
from infra.worker.plan import Finished, PhaseWorker, Plan

PROGRAM = "evaluator_worker.programs.evaluate"


def plan(command: EvaluateModel) -> Plan:
    """Plan the program with the splits, the base model and its adapters as inputs."""
    inputs, location = model_inputs(command.model)
    spec = Spec(
        model=location,
        metric=command.options.metric_of(command.hyperparameters.stage),
        options=command.options,
        seed=command.seed,
    )
    return Plan(PROGRAM, spec, {"splits": f"{command.splits}#splits/", **inputs})


def conclude(command: EvaluateModel, finished: Finished) -> ModelEvaluated:
    """Build the event with the scores; of the test split it holds numbers only."""
    result = Result.model_validate_json(finished.result.read_bytes())
    return ModelEvaluated(
        **finished.facts(),
        report=command.output,
        dev=result.dev,
        test=result.test,
        metrics=result.metrics,
        notices=result.notices,
    )


WORKER = PhaseWorker(phase=Phase.EVALUATE, command=EvaluateModel, plan=plan, conclude=conclude, module=PROGRAM)
