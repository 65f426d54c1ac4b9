"""The optimizer, as the worker host finds it through the entry points."""

from __future__ import annotations

from contracts.commands import OptimizeData
from contracts.tasks import Phase
from infra.worker.plan import PhaseWorker
from optimizer_worker.handlers import conclude, plan

WORKER = PhaseWorker(phase=Phase.OPTIMIZE, command=OptimizeData, plan=plan, conclude=conclude)
