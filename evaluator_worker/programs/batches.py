"""Group sequences of similar length into batches, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def by_length(lengths: Sequence[int], rows: int, tokens: int) -> list[list[int]]:
    """Return batches of indices, longest sequences first, each of at most `rows` sequences and `tokens` padded tokens.

    A sequence longer than `tokens` is a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        last = batches[-1] if batches else []
        if last and len(last) < rows and (len(last) + 1) * lengths[last[0]] <= tokens:
            last.append(index)
        else:
            batches.append([index])
    return batches


def padded(sequences: Sequence[Sequence[int]], fill: int, *, left: bool, device: torch.device) -> torch.Tensor:
    """Return a matrix of shape (sequences, longest) of token ids or 0/1 masks, padded with `fill` on one side."""
    longest = max(map(len, sequences))
    matrix = torch.full((len(sequences), longest), fill, dtype=torch.long)
    for line, sequence in zip(matrix, sequences, strict=True):
        columns = slice(longest - len(sequence), longest) if left else slice(0, len(sequence))
        line[columns] = torch.as_tensor(sequence, dtype=torch.long)
    return matrix.to(device)
