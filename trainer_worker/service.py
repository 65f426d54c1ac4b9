"""The trainer as the worker host knows it."""

from __future__ import annotations

from contracts.commands import TrainModel
from contracts.tasks import Phase
from infra.worker.plan import PhaseWorker
from trainer_worker.handlers import PROGRAM, conclude, plan

WORKER: PhaseWorker[TrainModel] = PhaseWorker(
    phase=Phase.TRAIN, command=TrainModel, plan=plan, conclude=conclude, module=PROGRAM
)
