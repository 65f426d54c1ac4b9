"""`train.jsonl` becomes examples: tokens, what is scored of them, and how much each counts."""

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
RENDERED_TOGETHER = 1024


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to learn from: `ids` and `weights` of shape (length,), a weight of 0 where a token is not scored.

    The first token has no predecessor, so it is never predicted.
    """

    ids: Ids
    weights: Weights

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def teaches(self) -> bool:
        """Whether any of its tokens is predicted."""
        return bool(self.weights[1:].any())


@dataclass(frozen=True, slots=True)
class Examples:
    """All examples, and how many rows were dropped: their answer alone is longer than allowed, or empty."""

    items: list[Example]
    dropped: int

    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(item) for item in self.items]


def training_rows(path: Path) -> list[Row]:
    """Every row of the file, at least one. Raises BadInput."""
    rows = read_rows(path)
    if not rows:
        raise BadInput(f"{path.name} is empty; expected at least one row", field=path.name)
    return rows


def make_examples(rows: Sequence[Row], chat: ChatFormat, max_length: int | None) -> Examples:
    """Render every row into at most `max_length` tokens, None for no limit. Raises BadConfiguration where none fits."""
    items = [
        _example(tokens, row.weight) if tokens else None
        for some in _batched(rows)
        for row, tokens in zip(some, chat.render(some, max_length), strict=True)
    ]
    kept = [item for item in items if item is not None and item.teaches]
    if not kept:
        raise BadConfiguration(
            f"no row's answer fits into {max_length} tokens; raise max_length (and tokens_per_batch)",
            field="max_length",
        )
    return Examples(kept, dropped=len(items) - len(kept))


def require_conversations(rows: Sequence[Row]) -> None:
    """Raises BadInput where a row is plain text, of which stage `sft` would not know what to score."""
    plain = next((row for row in rows if row.text is not None), None)
    if plain:
        raise BadInput(f"row {plain.id} is plain text; stage sft needs conversations (or use stage pt)", field="stage")


def _batched(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), RENDERED_TOGETHER):
        yield rows[start : start + RENDERED_TOGETHER]


def _example(tokens: Rendered, weight: float) -> Example:
    return Example(tokens.ids, tokens.scored * np.float32(weight))
