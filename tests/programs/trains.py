"""A program that trains a layer with torch, and writes which threads it used."""

from __future__ import annotations

import json
import os

import numpy as np
import torch
from pydantic import BaseModel

from infra.child.program import Job


class Spec(BaseModel):
    threads: int = 2
    device: str = "cpu"


class Result(BaseModel):
    first_loss: float
    last_loss: float
    threads: int
    """Threads of the process that the training has started, its own one included."""
    blas_threads: int
    """Threads that numpy's matrix products may use."""


def main(spec: Spec, job: Job) -> Result:
    torch.manual_seed(1)
    torch.set_num_threads(spec.threads)
    before = len(os.listdir("/proc/self/task"))
    inputs = torch.randn(512, 512, device=spec.device)
    layer = torch.nn.Linear(512, 512, device=spec.device)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    losses = []
    for _ in range(5):
        loss = (layer(inputs) - inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    started = len(os.listdir("/proc/self/task")) - before
    (job.out / "losses.json").write_text(json.dumps(losses))
    return Result(first_loss=losses[0], last_loss=losses[-1], threads=started, blas_threads=_blas_threads())


def _blas_threads() -> int:
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    return min(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
