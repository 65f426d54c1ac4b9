"""Render rows with a model's chat template, to report those that training or evaluation would set aside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from contracts.notices import Notice, notice
from contracts.rows import Row
from infra.child.program import Job
from infra.models.chat_format import ChatFormat, Refusal
from infra.models.language_model import load_tokenizer
from infra.models.model_inputs import ModelLocation
from optimizer_worker.spec import SEALED

ROWS_AT_ONCE = 1024


def rendering_notices(
    model: ModelLocation, max_length: int, rows: Mapping[str, Sequence[Row]], job: Job
) -> Iterator[Notice]:
    """Yield a notice for each reason why rows of a dataset cannot be rendered, the most frequent reason first.

    Raises BadConfiguration if the tokenizer cannot be loaded or its template cannot work.
    """
    job.report("loading the tokenizer", 0)
    chat = ChatFormat(load_tokenizer(model, job))
    for name, part in rows.items():
        refused: dict[Refusal, list[Row]] = {}
        starts = range(0, len(part), ROWS_AT_ONCE)
        for start in job.track(starts, f"rendering {name}", len(starts)):
            batch = part[start : start + ROWS_AT_ONCE]
            for row, tokens in zip(batch, chat.render(batch, max_length), strict=True):
                if isinstance(tokens, Refusal):
                    refused.setdefault(tokens, []).append(row)
        yield from _notices(name, refused)


def _notices(name: str, refused: Mapping[Refusal, list[Row]]) -> Iterator[Notice]:
    for refusal, rows in sorted(refused.items(), key=lambda item: -len(item[1])):
        reason = refusal.reason if name == SEALED else str(refusal)
        what = "trained on" if name == "train" else "scored"
        places = () if name == SEALED else (row.id for row in rows)
        yield notice(refusal.rule, len(rows), f"rows of {name} that are not {what} with this model: {reason}", places)
