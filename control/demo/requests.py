"""The bodies of the demo's two tasks: pretrain the tiny model on raw questions, then let the loop teach it answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

USER = 1
LABEL_BUDGET = 120
ITERATIONS = 5

PRETRAINING = {
    "stage": "pt",
    "method": "full",
    "learning_rate": 3e-3,
    "epochs": 8,
    "tokens_per_batch": 2048,
    "max_length": 128,
    "warmup_ratio": 0.05,
}
ANSWERS = {
    "stage": "sft",
    "method": "lora",
    "learning_rate": 5e-3,
    "epochs": 20,
    "tokens_per_batch": 1024,
    "max_length": 128,
    "lora_rank": 32,
    "lora_alpha": 64,
    "warmup_ratio": 0.05,
}


def pretraining(base: Path, datasets: Mapping[str, str], seed: int) -> dict[str, Any]:
    """A STANDARD task: plain text, every parameter, scored by perplexity."""
    return {
        "task_name": "pretrain a tiny Llama",
        "model_name": str(base),
        "dataset_id": datasets["texts"],
        "dev_dataset_id": datasets["dev_texts"],
        "user_id": USER,
        "seed": seed,
        "auto_start": True,
        "hyperparameters": PRETRAINING,
        "optimization": {"test_fraction": 0.03},
    }


def loop(model: str, datasets: Mapping[str, str], arm: str, seed: int) -> dict[str, Any]:
    """A CONTINUOUS task: LoRA on the cumulative rows, at most 120 new ones a turn, scored by exact match."""
    return {
        "task_name": f"bank answers, {arm}",
        "model_name": model,
        "dataset_id": datasets["start"],
        "dev_dataset_id": datasets["dev"],
        "test_dataset_id": datasets["test"],
        "pool_dataset_id": datasets["pool"],
        "user_id": USER,
        "seed": seed,
        "auto_start": True,
        "max_iterations": ITERATIONS,
        "hyperparameters": ANSWERS,
        "optimization": {"arm": arm, "label_budget": LABEL_BUDGET},
        "evaluation": {"max_new_tokens": 16, "batch_size": 128},
    }
