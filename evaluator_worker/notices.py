"""What a person should know about the rows of a split; for the sealed test split only numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from contracts.notices import Notice, notice
from contracts.rows import Row
from evaluator_worker.row_results import MAX_REASONS, SEALED, RowResults


def unscored_notices(split: str, results: RowResults) -> Iterator[Notice]:
    """Yield a notice for each reason for which rows could not be scored, the most frequent first."""
    reasons: dict[str, list[Row]] = defaultdict(list)
    for unscored in results.unscored:
        reasons[unscored.reason if split == SEALED else str(unscored)].append(unscored.row)
    ordered = sorted(reasons.items(), key=lambda item: -len(item[1]))
    for reason, rows in ordered[:MAX_REASONS]:
        yield _notice("unscored", split, rows, f"not scored, because {reason}")
    if others := [row for _, rows in ordered[MAX_REASONS:] for row in rows]:
        yield _notice("unscored", split, others, "not scored for other reasons")


def shortened_notices(split: str, results: RowResults) -> Iterator[Notice]:
    """Yield a notice about rows of which only a part was scored."""
    if shortened := [result.row for result in results.scored if result.shortened]:
        text = "longer than the model's context: a conversation is scored without its start, a text without its end"
        yield _notice("shortened", split, shortened, text)


def limit_notices(split: str, results: RowResults, limit: int, *, chosen: bool) -> Iterator[Notice]:
    """Yield notices about answers that were cut at `limit` tokens, and references that are longer.

    `chosen` tells whether a person set the limit, or it follows from the references.
    """
    name = f"maxNewTokens ({limit})" if chosen else f"{limit} tokens or the end of the model's context"
    advice = "raise maxNewTokens" if chosen else "set maxNewTokens if a longer answer can be right and fits"
    bound, longer_advice = (name, advice) if chosen else (f"the automatic limit ({limit})", "set maxNewTokens")
    if cut := [result.row for result in results.cut()]:
        text = f"{len(cut)} of {len(results.scored)} answers were cut at {name}; {advice}"
        yield _notice("answers_cut", split, cut, text)
    if longer := [result.row for result in results.scored if result.reference > limit]:
        text = f"{len(longer)} references are longer than {bound}, so their answers are cut; {longer_advice}"
        yield _notice("references_too_long", split, longer, text)


def _notice(rule: str, split: str, rows: Sequence[Row], text: str) -> Notice:
    places = () if split == SEALED else map(_place, rows)
    return notice(rule, len(rows), f"{split}: {text}", places)


def _place(row: Row) -> str:
    return f"{row.source.file}:{row.source.line}" if row.source else row.id
