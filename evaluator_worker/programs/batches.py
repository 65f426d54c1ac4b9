"""Sequences of similar length together, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def by_length(lengths: Sequence[int], rows: int, tokens: int) -> list[list[int]]:
    """Indices of sequences in batches, longest first: at most `rows` each, and `tokens` with padding where it can."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        last = batches[-1] if batches else []
        if last and len(last) < rows and (len(last) + 1) * lengths[last[0]] <= tokens:
            last.append(index)
        else:
            batches.append([index])
    return batches


def padded(sequences: Sequence[Sequence[int]], fill: int, *, left: bool, device: torch.device) -> torch.Tensor:
    """A matrix (sequences, longest) of token ids, or of 0/1 masks, filled up at one side."""
    longest = max(map(len, sequences))
    matrix = torch.full((len(sequences), longest), fill, dtype=torch.long)
    for line, sequence in zip(matrix, sequences, strict=True):
        where = slice(longest - len(sequence), longest) if left else slice(0, len(sequence))
        line[where] = torch.as_tensor(sequence, dtype=torch.long)
    return matrix.to(device)
