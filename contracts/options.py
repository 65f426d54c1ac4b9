"""What a user may set: each option with its range, its default and a line that says what it does."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

from contracts.message import Frozen


class Options(Frozen):
    """Options are accepted in camelCase and in snake_case, and written in snake_case."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
    )


class Stage(StrEnum):
    """What is trained: plain text (`pt`, every token) or answers (`sft`, the assistant's tokens)."""

    PT = "pt"
    SFT = "sft"


class Method(StrEnum):
    """Which parameters move."""

    FULL = "full"
    LORA = "lora"


class Arm(StrEnum):
    """How rows are drawn from the pool: toward the weak slices, at random, or not at all."""

    TARGETED = "targeted"
    RANDOM = "random"
    NONE = "none"


class Metric(StrEnum):
    """Which number is the score. `perplexity` scores as 1/perplexity, so that higher is better."""

    EXACT_MATCH = "exact_match"
    TOKEN_F1 = "token_f1"  # noqa: S105  # no password: a metric
    ROUGE_L = "rouge_l"
    PERPLEXITY = "perplexity"


class Hyperparameters(Options):
    """How the trainer trains."""

    stage: Stage = Stage.SFT
    method: Method = Method.LORA
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    epochs: float = Field(default=3.0, gt=0, le=1000)
    max_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Optimizer steps; ends training before `epochs` does, or after it where epochs are too few."""
    tokens_per_batch: int = Field(default=2048, ge=16, le=4_194_304)
    """Padded tokens in one optimizer step's batch."""
    max_length: int = Field(default=1024, ge=8, le=1_048_576)
    """Tokens of one row; longer rows lose the start of their prompt, never their answer."""
    warmup_ratio: float = Field(default=0.03, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0, le=1000)
    lora_rank: int = Field(default=16, ge=1, le=1024)
    lora_alpha: int = Field(default=32, ge=1, le=4096)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    checkpoint_every: int = Field(default=200, ge=1)
    """Optimizer steps between two checkpoints."""


class OptimizationOptions(Options):
    """How the optimizer cleans the data and answers a report."""

    arm: Arm = Arm.TARGETED
    label_budget: int = Field(default=100, ge=0, le=1_000_000)
    """Rows that one iteration may draw from the pool."""
    near_duplicate: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity from which prompts, and answers, count as the same."""
    quarantine_conflicts: bool = True
    """Take rows out whose prompt stands elsewhere with another answer."""
    quarantine_wrong_labels: bool = True
    """Take rows out whose label a cross-validated classifier contradicts with confidence."""
    dev_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    max_slice_weight: float = Field(default=3.0, ge=1, le=10)
    """The most that a weak slice's rows may weigh in training."""


class EvaluationOptions(Options):
    """How the evaluator scores."""

    metric: Metric | None = None
    """None: exact match, or perplexity where the stage is `pt`."""
    max_new_tokens: int = Field(default=64, ge=1, le=8192)
    batch_size: int = Field(default=64, ge=1, le=4096)
    bootstrap_samples: int = Field(default=1000, ge=100, le=100_000)
    max_bad_cases: int = Field(default=500, ge=0, le=100_000)


class StopRules(Options):
    """When a continuous task has had enough. The dev score rules; test is only reported."""

    max_iterations: int = Field(default=5, ge=1, le=1000)
    performance_threshold: float | None = Field(default=None, gt=0, le=1)
    threshold_by_lower_bound: bool = False
    """Compare the lower end of the score's interval with the threshold instead of the score."""
    plateau_iterations: int | None = Field(default=None, ge=1, le=1000)
    """Stop after this many iterations in a row without a significant gain over the best before."""
    gpu_seconds: float | None = Field(default=None, gt=0)
    labels: int | None = Field(default=None, ge=1)

    @field_validator("threshold_by_lower_bound")
    @classmethod
    def _has_a_threshold(cls, wanted: bool, info: ValidationInfo) -> bool:
        if wanted and info.data.get("performance_threshold") is None:
            raise ValueError("needs a performanceThreshold to compare the lower end with")
        return wanted
