"""The state of a training, and the optimizer step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from contracts.options import Hyperparameters
from trainer_worker.programs.batching import BatchStream
from trainer_worker.programs.examples import Example
from trainer_worker.programs.history import LossHistory
from trainer_worker.programs.objective import collate, loss_of
from trainer_worker.programs.precision import autocast
from trainer_worker.programs.schedule import learning_rate
from trainer_worker.programs.threads import StepThreads

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(slots=True)
class Training:
    """The state of a training; a checkpoint holds what changes: weights, optimizer, stream position, counters."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    examples: list[Example]
    stream: BatchStream
    hyper: Hyperparameters
    steps: int
    """Number of optimizer steps of the whole training."""
    device: torch.device
    padding: int
    """Token id used for padding."""
    bfloat16: bool
    history: LossHistory
    threads: StepThreads
    step: int = 0
    tokens: int = 0
    """Number of tokens processed so far, padding not counted."""
    padded: int = 0
    """Number of tokens processed so far, padding included."""
    trainable: list[torch.nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def advance(self) -> None:
        """Make one optimizer step on the next batch of the stream."""
        batch = collate([self.examples[row] for row in next(self.stream)], self.padding, self.device)
        self.threads.use(batch.ids.numel())
        with autocast(self.device, bfloat16=self.bfloat16):
            loss = loss_of(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.trainable, self.hyper.max_grad_norm)
        self._set_learning_rate()
        self.optimizer.step()
        self.step += 1
        self.tokens += batch.tokens
        self.padded += batch.ids.numel()
        self.history.record(self.step, loss)

    def _set_learning_rate(self) -> None:
        hyper = self.hyper
        rate = learning_rate(self.step, steps=self.steps, peak=hyper.learning_rate, warmup_ratio=hyper.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
