"""Find labels and categories in several spellings, such as "refund", "Refund " and "REFUND"."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from contracts.notices import Notice, notice
from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.similarity.normalization import normal


def preferred(texts: Iterable[str]) -> dict[str, str]:
    """Return the most frequent spelling of each text that has several, by spelling; of equals the first one."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        spellings[normal(text)][text] += 1
    return {
        spelling: counts.most_common(1)[0][0] for counts in spellings.values() if len(counts) > 1 for spelling in counts
    }


def with_slices(rows: Sequence[Row], spelling: Mapping[str, str]) -> list[Row]:
    """Return the rows with the preferred spelling of their slices; a slice is a name, not text that is trained on."""
    return [
        row
        if spelling.get(row.slice, row.slice) == row.slice
        else row.model_copy(update={"slice": spelling[row.slice]})
        for row in rows
    ]


def merged_spellings(rows: Sequence[Row]) -> tuple[list[Row], list[RuleDecision]]:
    """Return the rows whose answers change to their most frequent spelling, and the decisions to rewrite them."""
    spelling = preferred(row.response for row in rows)
    changed = [row for row in rows if spelling.get(row.response, row.response) != row.response]
    rewritten = [_answered(row, spelling[row.response]) for row in changed]
    return rewritten, [RuleDecision(row.id, Action.REWRITTEN, "merged_spelling") for row in changed]


def spelling_notice(rows: Sequence[Row]) -> Notice | None:
    """Return a notice that lists the labels in several spellings; None if there are none."""
    spelling = preferred(row.response for row in rows)
    counts = Counter(row.response for row in rows if row.response in spelling)
    if not counts:
        return None
    labels: dict[str, list[str]] = defaultdict(list)
    for text, count in counts.most_common():
        labels[spelling[text]].append(f"{text!r} {count} times")
    listed = "; ".join(", ".join(found) for found in labels.values())
    others = [row for row in rows if spelling.get(row.response, row.response) != row.response]
    return notice(
        "label_spelling",
        len(others),
        "Labels in several spellings count as one label. They are trained on as they are; --merge-spellings writes the "
        f"most frequent spelling: {listed}",
        (row.id for row in others),
    )


def _answered(row: Row, answer: str) -> Row:
    last = row.turns[-1].model_copy(update={"content": answer})
    return row.model_copy(update={"turns": (*row.turns[:-1], last)})
