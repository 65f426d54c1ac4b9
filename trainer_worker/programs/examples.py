"""Convert `train.jsonl` to examples: tokens, and a weight for each token that is scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.rows import Row
from infra.errors import BadConfiguration, BadInput
from infra.models.chat_format import ChatFormat, Ids, Rendered
from infra.row_files import read_rows

Weights = npt.NDArray[np.float32]
ROWS_PER_RENDER = 1024
"""Number of rows rendered in one call."""


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
    """All examples, and the number of dropped rows, whose answer is empty or longer than allowed."""

    items: list[Example]
    dropped: int

    def lengths(self) -> list[int]:
        """Return the number of tokens of each example."""
        return [len(item) for item in self.items]


def training_rows(path: Path) -> list[Row]:
    """Read the rows of the file. Raises BadInput if there are none or a line is not a Row."""
    rows = read_rows(path)
    if not rows:
        raise BadInput(f"{path.name} is empty; expected at least one row", field=path.name)
    return rows


def make_examples(rows: Sequence[Row], chat: ChatFormat, max_length: int | None) -> Examples:
    """Render every row into at most `max_length` tokens (None: no limit). Raises BadConfiguration if no row fits."""
    items = [
        _example(tokens, row.weight) if tokens else None
        for batch in _batched(rows)
        for row, tokens in zip(batch, chat.render(batch, max_length), strict=True)
    ]
    kept = [item for item in items if item is not None and item.has_scored_tokens]
    if not kept:
        raise BadConfiguration(
            f"no row's answer fits into {max_length} tokens; raise max_length (and tokens_per_batch)",
            field="max_length",
        )
    return Examples(kept, dropped=len(items) - len(kept))


def require_conversations(rows: Sequence[Row]) -> None:
    """Raises BadInput if a row is plain text, in which stage `sft` has no answer to score."""
    plain = next((row for row in rows if row.text is not None), None)
    if plain:
        raise BadInput(
            f"row {plain.id} is plain text; stage sft needs conversations; give such rows, or set stage to pt",
            field="stage",
        )


def _batched(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), ROWS_PER_RENDER):
        yield rows[start : start + ROWS_PER_RENDER]


def _example(tokens: Rendered, weight: float) -> Example:
    return Example(tokens.ids, tokens.scored * np.float32(weight))
