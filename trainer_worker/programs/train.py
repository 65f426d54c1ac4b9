"""Train a causal language model on the optimised rows.

By hand: `python -m infra.child.program trainer_worker.programs.train DIR`; DIR holds `spec.json` and `input/`.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from contracts.options import Method, Stage
from contracts.rows import Row
from infra.child.memory import memory_errors
from infra.child.program import Job, Stopped
from infra.models.chat_format import ChatFormat
from infra.models.embeddings import known_tokens
from infra.models.language_model import load
from infra.models.layers import find_layers
from trainer_worker.programs import checkpoint
from trainer_worker.programs.batching import BatchStream
from trainer_worker.programs.combining import require_combinable
from trainer_worker.programs.examples import Examples, make_examples, training_rows
from trainer_worker.programs.history import LossHistory
from trainer_worker.programs.limits import RowLimit, check_rank, row_limit
from trainer_worker.programs.methods import optimizer_for, prepare
from trainer_worker.programs.output import save_model, save_record, save_tokenizer
from trainer_worker.programs.packing import pack
from trainer_worker.programs.precision import use_bfloat16
from trainer_worker.programs.progress import Progress
from trainer_worker.programs.threads import StepThreads
from trainer_worker.programs.training import Training
from trainer_worker.spec import CHECKPOINT, ROWS, TrainResult
from trainer_worker.spec import TrainSpec as Spec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)
"""A standard logger: without any set-up its warnings go to standard error, which is the program's log."""


def main(spec: Spec, job: Job) -> TrainResult:
    """Load, train with checkpoints, and save.

    Raises a PhaseError with the field to correct, or Stopped after a last checkpoint if a stop is requested.
    """
    tokens = spec.hyperparameters.tokens_per_batch
    advice = f"lower tokens_per_batch (now {tokens}) or max_length, or use method lora"
    with memory_errors(advice, field="tokens_per_batch"):
        return _train(spec, job)


def _train(spec: Spec, job: Job) -> TrainResult:
    started = time.monotonic()
    hyper = spec.hyperparameters
    rows_file = job.input(ROWS) / "train.jsonl"
    rows = training_rows(rows_file)

    job.report("loading", 0)
    _seed(spec.seed)
    layers = find_layers(spec.model, job)
    # Full training computes with float32 weights, so that no tensor may be rounded when it is loaded.
    model, tokenizer = load(
        spec.model, job, dtype=torch.float32 if hyper.method is Method.FULL else None, layers=layers
    )
    chat = ChatFormat(tokenizer, known_tokens(model))
    check_rank(hyper, model.config)
    examples = _examples(rows, chat, row_limit(hyper, model.config), spec, job)

    model = prepare(model, hyper)
    if hyper.method is Method.LORA:
        require_combinable(layers, model)
    training = _start(model, examples, spec, padding=chat.eos)
    speed = _run(training, job, spec, _fingerprint(spec, rows_file.read_bytes()))

    job.report("saving", training.step, training.steps)
    result = _result(training, examples, speed, time.monotonic() - started, layers.base.name)
    save_model(training.model, spec, layers, job.out)
    save_tokenizer(tokenizer, chat, spec, job.out)
    save_record(training, spec, result, examples.set_aside.record(), job.out)
    return result


def _examples(rows: list[Row], chat: ChatFormat, limit: RowLimit, spec: Spec, job: Job) -> Examples:
    """Make one example of each conversation, or in stage `pt` pack all texts and rendered conversations into blocks."""
    examples = make_examples(rows, chat, limit, spec.hyperparameters.stage, job)
    if spec.hyperparameters.stage is Stage.PT:
        return replace(examples, items=list(pack(examples.items, limit.tokens, chat.eos, spec.seed)))
    return examples


def _start(model: PreTrainedModel, examples: Examples, spec: Spec, *, padding: int) -> Training:
    """Return a training at step 0."""
    hyper = spec.hyperparameters
    stream = BatchStream(examples.lengths(), hyper.tokens_per_batch, spec.seed)
    steps = hyper.max_steps or max(1, round(hyper.epochs * stream.per_epoch()))
    return Training(
        model=model,
        optimizer=optimizer_for(model, hyper),
        examples=examples.items,
        stream=stream,
        hyper=hyper,
        steps=steps,
        device=model.device,
        padding=padding,
        bfloat16=use_bfloat16(model, model.device),
        history=LossHistory(steps),
        threads=StepThreads(model, hyper),
    )


def _run(training: Training, job: Job, spec: Spec, fingerprint: str) -> float:
    """Train to the end, from the newest checkpoint if there is one; return tokens per second, without padding."""
    newest = checkpoint.latest(job.checkpoints, job.input(CHECKPOINT))
    if newest:
        checkpoint.restore(training, fingerprint, newest)
    elif spec.resume_from:
        log.warning("%s holds no complete checkpoint; training starts from step 0", spec.resume_from)
    progress = Progress(job, training)
    while training.step < training.steps:
        training.advance()
        progress.stepped()
        if job.stop.is_set():
            checkpoint.save(training, fingerprint, job.checkpoints)
            raise Stopped
        if training.step % training.hyper.checkpoint_every == 0 and training.step < training.steps:
            checkpoint.save(training, fingerprint, job.checkpoints)
    return progress.tokens_per_second()


def _result(training: Training, examples: Examples, speed: float, seconds: float, base: str) -> TrainResult:
    metrics = {
        "loss": training.history.recent(),
        "tokens_per_second": speed,
        "padding_fraction": 1 - training.tokens / training.padded,
        "seconds": seconds,
        "tokens": float(training.tokens),
        "sequences": float(len(examples.items)),
        "dropped_rows": float(examples.set_aside.count()),
    }
    return TrainResult(steps=training.step, metrics=metrics, base=base, notices=tuple(examples.notices()))


def _seed(seed: int) -> None:
    """Seed every generator that the model's code may use, for example for initial adapters and dropout."""
    random.seed(seed)
    np.random.seed(seed)  # libraries use the legacy generator
    torch.manual_seed(seed)


def _fingerprint(spec: Spec, rows: bytes) -> str:
    """Hash everything that determines the training; it is the same in every attempt, on every worker."""
    model = spec.model.model_copy(update={"trust_remote_code": False})  # a setting of the worker
    spec = spec.model_copy(update={"model": model})
    return hashlib.sha256(spec.model_dump_json(exclude={"resume_from"}).encode() + rows).hexdigest()
