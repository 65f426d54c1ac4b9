"""`train.jsonl` becomes examples: tokens, what is scored of them, and how much each counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from contracts.options import Stage
from contracts.rows import Row
from infra.chat_format import ChatFormat, Ids, Rendered
from infra.errors import BadConfiguration, BadInput

RENDERED_TOGETHER = 1024


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to learn from. Its first token is never predicted, so it is never scored."""

    tokens: Rendered
    weight: float

    def __len__(self) -> int:
        return len(self.tokens.ids)


@dataclass(frozen=True, slots=True)
class Examples:
    """All examples, and how many rows were dropped: their answer alone is longer than allowed, or empty."""

    items: list[Example]
    dropped: int

    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(item) for item in self.items]


def read_rows(path: Path) -> list[Row]:
    """Every row of a JSON-lines file. Raises BadInput naming the file and line."""
    rows: list[Row] = []
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                rows.append(_row(line, f"{path.name}:{number}"))
    except FileNotFoundError as error:
        raise BadInput(f"the dataset holds no {path.name}", field=path.name) from error
    if not rows:
        raise BadInput(f"{path.name} is empty; expected at least one row", field=path.name)
    return rows


def _row(line: bytes, place: str) -> Row:
    try:
        return Row.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "row"
        raise BadInput(f"{place}: {name}: {first['msg']}", field=place) from error


def make_examples(rows: Sequence[Row], chat: ChatFormat, stage: Stage, max_length: int) -> Examples:
    """Render every row for `stage` into at most `max_length` tokens.

    Raises BadInput for plain text in stage `sft`, BadConfiguration where no row fits.
    """
    if stage is Stage.SFT:
        plain = next((row for row in rows if row.text is not None), None)
        if plain:
            raise BadInput(
                f"row {plain.id} is plain text; stage sft needs conversations (or use stage pt)", field="stage"
            )
    items = [item for row in _batched(rows) for item in _examples(row, chat, stage, max_length)]
    kept = [item for item in items if item is not None and item.tokens.scored[1:].any()]
    if not kept:
        raise BadConfiguration(
            f"no row's answer fits into {max_length} tokens; raise max_length (and tokens_per_batch)",
            field="max_length",
        )
    return Examples(kept, dropped=len(items) - len(kept))


def _batched(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), RENDERED_TOGETHER):
        yield rows[start : start + RENDERED_TOGETHER]


def _examples(rows: Sequence[Row], chat: ChatFormat, stage: Stage, max_length: int) -> Iterator[Example | None]:
    if stage is Stage.SFT:
        for row, tokens in zip(rows, chat.render(rows, max_length), strict=True):
            yield Example(tokens, row.weight) if tokens else None
        return
    for row, tokens in zip(rows, chat.render(rows), strict=True):
        assert tokens is not None  # without a limit every row fits
        yield from _windows(tokens.ids, row.weight, max_length)


def _windows(ids: Ids, weight: float, length: int) -> Iterator[Example]:
    """Plain text, every token scored, cut into sequences of at most `length` tokens.

    Each continues one text only: nothing is learnt across the border of two texts, and bucketing by length
    leaves as little padding as packing would.
    """
    for start in range(0, max(1, len(ids) - 1), length):  # a last token alone would teach nothing
        part = ids[start : start + length]
        yield Example(Rendered(part, np.ones(len(part), dtype=np.bool_)), weight)
