"""Convert `train.jsonl` to examples: tokens, and a weight for each token that is scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.notices import Notice, notice
from contracts.options import Stage
from contracts.rows import Row
from infra.child.program import Job
from infra.errors import BadInput
from infra.models.chat_format import ChatFormat, Ids, Refusal, Rendered, Rule
from infra.row_files import read_rows
from trainer_worker.programs.limits import RowLimit
from trainer_worker.programs.set_aside import SetAside, place

Weights = npt.NDArray[np.float32]
ROWS_PER_RENDER = 1024
"""Number of rows rendered in one call."""
PLAIN_TEXT = Refusal(Rule.PLAIN_TEXT, "it is plain text, which stage sft cannot train on")
TOO_SHORT = Refusal(Rule.TOO_SHORT, "it has no token that could be predicted")


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: `ids` and `weights` of shape (length,); the weight of a token that is not scored is 0.

    The first token has no predecessor, so it is never predicted.
    """

    ids: Ids
    weights: Weights

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_scored_tokens(self) -> bool:
        """Whether the example has a token that is predicted and scored."""
        return bool(self.weights[1:].any())


@dataclass(frozen=True, slots=True)
class Examples:
    """All examples, the rows that are set aside, and rows of which a part is left out."""

    items: list[Example]
    set_aside: SetAside = field(default_factory=SetAside)
    shortened: list[Row] = field(default_factory=list)
    without_reasoning: list[Row] = field(default_factory=list)

    def lengths(self) -> list[int]:
        """Return the number of tokens of each example."""
        return [len(item) for item in self.items]

    def notices(self) -> Iterator[Notice]:
        """Yield what a person should know about the rows."""
        yield from self.set_aside.notices()
        limit = self.set_aside.limit
        if self.shortened and limit:
            text = f"the start of the prompt is left out, because only {limit.tokens} tokens fit; {limit.advice}"
            yield notice("shortened", len(self.shortened), text, map(place, self.shortened))
        if self.without_reasoning:
            text = "the model's chat template leaves out the reasoning of earlier turns, as at inference"
            yield notice("reasoning_left_out", len(self.without_reasoning), text, map(place, self.without_reasoning))


def training_rows(path: Path) -> list[Row]:
    """Read the rows of the file. Raises BadInput if there are none or a line is not a Row."""
    rows = read_rows(path)
    if not rows:
        raise BadInput(f"{path.name} is empty; expected at least one row", field=path.name)
    return rows


def make_examples(
    rows: Sequence[Row],
    chat: ChatFormat,
    limit: RowLimit | None = None,
    stage: Stage = Stage.SFT,
    job: Job | None = None,
) -> Examples:
    """Make an example of each row that can be trained on.

    In stage `pt` rows may have any length, and every token is scored, unless the row has an answer that is not to be
    learnt. Progress is reported to `job`. Raises BadInput or BadConfiguration if most rows cannot be trained on.
    """
    made = Examples([], SetAside(limit))
    max_length = limit.tokens if limit and stage is Stage.SFT else None
    batches = list(_batched(rows))
    for batch in job.track(batches, "preparing rows", len(batches)) if job else batches:
        for row, tokens in zip(batch, chat.render(batch, max_length), strict=True):
            _add(made, row, tokens, stage)
    made.set_aside.require_most(len(rows))
    return made


def _add(made: Examples, row: Row, tokens: Rendered | Refusal, stage: Stage) -> None:
    if isinstance(tokens, Refusal) or (stage is Stage.SFT and row.text is not None):
        made.set_aside.add(row, tokens if isinstance(tokens, Refusal) else PLAIN_TEXT)
        return
    example = _example(row, tokens, stage)
    if not example.has_scored_tokens:
        made.set_aside.add(row, TOO_SHORT)
        return
    made.items.append(example)
    made.shortened.extend([row] if tokens.shortened else [])
    made.without_reasoning.extend([row] if tokens.reasoning_left_out else [])


def _batched(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), ROWS_PER_RENDER):
        yield rows[start : start + ROWS_PER_RENDER]


def _example(row: Row, tokens: Rendered, stage: Stage) -> Example:
    everything = stage is Stage.PT and all(turn.learn for turn in row.turns)
    scored = np.ones_like(tokens.scored) if everything else tokens.scored
    return Example(tokens.ids, scored * np.float32(row.training_weight))
