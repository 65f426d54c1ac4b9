"""Turn a `TrainModel` command into a plan for the program, and its result into `ModelTrained`."""

from __future__ import annotations

from contracts.commands import TrainModel
from contracts.events import ModelTrained
from contracts.options import Method
from contracts.tasks import ModelSource, Phase
from infra.models.model_inputs import model_inputs
from infra.worker.plan import Finished, PhaseWorker, Plan
from trainer_worker.spec import CHECKPOINT, ROWS, TrainResult, TrainSpec

PROGRAM = "trainer_worker.programs.train"


def plan(command: TrainModel) -> Plan:
    """Plan the program with the rows, the model's layers and the checkpoint of an earlier attempt, if any, as inputs.

    The checkpoint is optional: if it is damaged, the attempt starts from step 0 instead of failing.
    """
    inputs, location = model_inputs(command.model)
    inputs[ROWS] = f"{command.dataset.prefix}#train.jsonl"
    if command.resume_from:
        inputs[CHECKPOINT] = command.resume_from
    spec = TrainSpec(
        model=location,
        hyperparameters=command.hyperparameters,
        seed=command.seed,
        resume_from=command.resume_from,
    )
    return Plan(module=PROGRAM, spec=spec, inputs=inputs, optional={CHECKPOINT})


def conclude(command: TrainModel, finished: Finished) -> ModelTrained:
    """Build the event with the trained model as layers: a new base, or one adapter on the base of the command."""
    result = TrainResult.model_validate_json(finished.result.read_bytes())
    return ModelTrained(
        **finished.facts(),
        model=_trained(command, result),
        steps=result.steps,
        metrics=result.metrics,
        notices=result.notices,
    )


def _trained(command: TrainModel, result: TrainResult) -> ModelSource:
    """The trained model; the adapters below it are part of the new base or of the new adapter.

    If the base of the command is an adapter itself, the new adapter is complete on the base of that one, which its own
    configuration names; so it is given as the base.
    """
    base = command.model.base
    if command.hyperparameters.method is Method.FULL or result.base not in {None, base}:
        return ModelSource(base=f"artifact:{command.output}")
    return ModelSource(base=base, adapters=(command.output,))


WORKER: PhaseWorker[TrainModel] = PhaseWorker(
    phase=Phase.TRAIN, command=TrainModel, plan=plan, conclude=conclude, module=PROGRAM
)
