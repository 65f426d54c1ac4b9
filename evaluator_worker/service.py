"""The evaluator, as the worker host finds it through the entry points."""

from __future__ import annotations

from contracts.commands import EvaluateModel
from contracts.tasks import Phase
from evaluator_worker.handlers import PROGRAM, conclude, plan
from infra.worker.plan import PhaseWorker

WORKER = PhaseWorker(phase=Phase.EVALUATE, command=EvaluateModel, plan=plan, conclude=conclude, module=PROGRAM)
