"""Options of a task that a user can set, with their ranges and defaults.

Numbers and booleans are strict, because pydantic takes `true` and "1" for 1 otherwise; 1 is a valid float.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

from contracts.bounds import MAX_COUNT, MAX_SECONDS, YEAR
from contracts.message import Frozen


class Options(Frozen):
    """Base class of options: accepted in camelCase and snake_case, written in snake_case."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
    )


class Stage(StrEnum):
    """Which tokens are trained: every token of plain text (`pt`), or the assistant's answers (`sft`)."""

    PT = "pt"
    SFT = "sft"


class Method(StrEnum):
    """Which parameters are trained: all (`full`), or those of a LoRA adapter (`lora`)."""

    FULL = "full"
    LORA = "lora"


class Arm(StrEnum):
    """How rows are drawn from the pool: for weak slices (`targeted`), at random (`random`), or not at all (`none`)."""

    TARGETED = "targeted"
    RANDOM = "random"
    NONE = "none"


class Answers(StrEnum):
    """What the answers are: `labels` of few classes, or free `text`; `auto` decides by the rows."""

    AUTO = "auto"
    LABELS = "labels"
    TEXT = "text"


class Metric(StrEnum):
    """Which metric is the score. With `perplexity` the score is 1/perplexity, so that higher is better."""

    EXACT_MATCH = "exact_match"
    TOKEN_F1 = "token_f1"  # noqa: S105  # a metric, not a password
    ROUGE_L = "rouge_l"
    PERPLEXITY = "perplexity"


class Hyperparameters(Options):
    """Options of training."""

    stage: Stage = Stage.SFT
    method: Method = Method.LORA
    learning_rate: StrictFloat = Field(default=2e-4, gt=0, le=1)
    epochs: StrictFloat = Field(default=3.0, gt=0, le=1000)
    max_steps: StrictInt | None = Field(default=None, ge=1, le=10_000_000)
    """Optimizer steps; if set, training ends after these steps and `epochs` has no effect."""
    tokens_per_batch: StrictInt = Field(default=2048, ge=16, le=4_194_304)
    """Tokens in the batch of one optimizer step, padding included."""
    max_length: StrictInt = Field(default=1024, ge=8, le=1_048_576)
    """Tokens of one row. A longer row loses the start of its prompt, never its answer."""
    warmup_ratio: StrictFloat = Field(default=0.03, ge=0, le=1)
    weight_decay: StrictFloat = Field(default=0.0, ge=0, le=1)
    max_grad_norm: StrictFloat = Field(default=1.0, gt=0, le=1000)
    lora_rank: StrictInt = Field(default=16, ge=1, le=1024)
    lora_alpha: StrictInt = Field(default=32, ge=1, le=4096)
    lora_dropout: StrictFloat = Field(default=0.0, ge=0, lt=1)
    checkpoint_every: StrictInt = Field(default=200, ge=1, lt=2**31)
    """Optimizer steps between two checkpoints."""


class OptimizationOptions(Options):
    """Options of the optimizer: how it cleans rows and draws rows from the pool."""

    arm: Arm = Arm.TARGETED
    label_budget: StrictInt = Field(default=100, ge=0, le=1_000_000)
    """Rows that one iteration may draw from the pool."""
    near_duplicate: StrictFloat = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity from which two prompts, or two answers, count as the same."""
    answers: Answers = Answers.AUTO
    """Only labels can conflict or be wrong; one prompt may have several answers that are free text."""
    max_loss: StrictFloat = Field(default=0.5, gt=0, le=1)
    """Largest share of the rows that one rule may remove, exact duplicates excepted; more fails the phase."""
    tidy: StrictBool = False
    """Rewrite texts in composed Unicode, without invisible characters and surplus white space."""
    merge_spellings: StrictBool = False
    """Write a label or category that occurs in several spellings in its most frequent one."""
    quarantine_conflicts: StrictBool = True
    """If the answers are labels, quarantine rows whose prompt also occurs with another label."""
    quarantine_wrong_labels: StrictBool = True
    """Quarantine rows whose label a cross-validated classifier contradicts with high confidence."""
    dev_fraction: StrictFloat = Field(default=0.1, gt=0, lt=0.5)
    test_fraction: StrictFloat = Field(default=0.1, gt=0, lt=0.5)
    max_slice_weight: StrictFloat = Field(default=3.0, ge=1, le=10)
    """Largest training weight of a row in a weak slice."""


class EvaluationOptions(Options):
    """Options of evaluation."""

    metric: Metric | None = None
    """None: exact match, or perplexity if the stage is `pt`."""
    max_new_tokens: StrictInt | None = Field(default=None, ge=1, le=8192)
    """Maximum tokens of a generated answer. None: as many as the references need."""
    batch_size: StrictInt = Field(default=64, ge=1, le=4096)
    bootstrap_samples: StrictInt = Field(default=1000, ge=100, le=100_000)
    max_bad_cases: StrictInt = Field(default=500, ge=0, le=100_000)

    def metric_of(self, stage: Stage) -> Metric:
        """The metric of the score of a model that was trained in this stage."""
        return self.metric or (Metric.PERPLEXITY if stage is Stage.PT else Metric.EXACT_MATCH)


class StopRules(Options):
    """When a continuous task stops. Only the dev score counts; the test score is only reported."""

    max_iterations: StrictInt = Field(default=5, ge=1, le=1000)
    performance_threshold: StrictFloat | None = Field(default=None, gt=0, le=1)
    threshold_by_lower_bound: StrictBool = False
    """Compare the threshold with the lower end of the score's interval instead of the score."""
    plateau_iterations: StrictInt | None = Field(default=None, ge=1, le=1000)
    """Stop after this many iterations in a row without a significant gain over the best earlier score."""
    gpu_seconds: StrictFloat | None = Field(default=None, gt=0, le=MAX_SECONDS)
    labels: StrictInt | None = Field(default=None, ge=1, le=MAX_COUNT)

    @field_validator("threshold_by_lower_bound")
    @classmethod
    def _needs_threshold(cls, by_lower_bound: bool, info: ValidationInfo) -> bool:
        if by_lower_bound and info.data.get("performance_threshold") is None:
            raise ValueError("needs performanceThreshold; set it, or leave thresholdByLowerBound out")
        return by_lower_bound


Limit = Annotated[StrictFloat, Field(ge=1, le=YEAR)]


class TimeLimits(Options):
    """Seconds after which an attempt is ended and tried again. None: no limit."""

    optimize_seconds: Limit | None = None
    train_seconds: Limit | None = None
    evaluate_seconds: Limit | None = None
    stall_seconds: Limit | None = 3600.0
    """Seconds without progress of the program, in any phase."""
