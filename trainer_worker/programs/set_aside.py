"""Rows that are not trained on, with their reasons: one row never ends a training, but most of them do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contracts.notices import Notice, notice
from contracts.rows import Row
from infra.errors import BadConfiguration, BadInput, PhaseError
from infra.models.chat_format import Refusal, Rule
from trainer_worker.programs.limits import RowLimit

MAX_SHARE = 0.5
"""Largest share of the rows that may be set aside."""
MAX_REASONS, MAX_RECORDED_IDS, MAX_EXAMPLES = 20, 1000, 3
"""Maximum reasons with a notice of their own, row ids of one reason in `training.json`, and ids in an error."""


class Remedy(NamedTuple):
    """What a person can do about a reason, and the error if it concerns most rows."""

    advice: str
    error: type[PhaseError] = BadInput
    field: str = "turns"


_OTHER_TEMPLATE = "change these conversations, or use a model whose template takes them"
REMEDIES: Mapping[Rule, Remedy] = {
    Rule.TEMPLATE: Remedy(_OTHER_TEMPLATE),
    Rule.LEFT_OUT: Remedy(_OTHER_TEMPLATE),
    Rule.CONTROL_TOKEN: Remedy("remove the control token from its texts"),
    Rule.UNKNOWN_TOKEN: Remedy("use the model's own tokenizer", BadConfiguration, "model"),
    Rule.NOT_LEARNT: Remedy("its turns say so by weight, train or loss"),
    Rule.NO_ANSWER: Remedy("let each conversation end with the assistant's answer"),
    Rule.PLAIN_TEXT: Remedy("give conversations, or set stage to pt", BadInput, "stage"),
    Rule.TOO_SHORT: Remedy("give a text of at least two tokens", BadInput, "text"),
}
"""The remedy of each reason, except that a row is too long."""


@dataclass(slots=True)
class SetAside:
    """The rows that are set aside, by reason; `limit` is the largest length of a row."""

    limit: RowLimit | None = None
    rows: dict[Refusal, list[Row]] = field(default_factory=dict)

    def add(self, row: Row, refusal: Refusal) -> None:
        """Set one row aside."""
        self.rows.setdefault(refusal, []).append(row)

    def count(self) -> int:
        """Return the number of rows that are set aside."""
        return sum(map(len, self.rows.values()))

    def notices(self) -> Iterator[Notice]:
        """Yield a notice for each reason, the most frequent first."""
        ordered = self._by_frequency()
        for refusal, rows in ordered[:MAX_REASONS]:
            text = f"not trained on: {refusal}; {self._remedy(refusal).advice}"
            yield notice(refusal.rule, len(rows), text, map(place, rows))
        if others := [row for _, rows in ordered[MAX_REASONS:] for row in rows]:
            yield notice(
                "set_aside", len(others), "not trained on, for other reasons: see training.json", map(place, others)
            )

    def record(self) -> list[dict[str, Any]]:
        """Return the reasons with the ids of their rows, for `training.json`."""
        return [
            {
                "rule": refusal.rule,
                "reason": str(refusal),
                "rows": len(rows),
                "ids": [r.id for r in rows[:MAX_RECORDED_IDS]],
            }
            for refusal, rows in self._by_frequency()
        ]

    def require_most(self, total: int) -> None:
        """Raise BadInput or BadConfiguration if more than half of `total` rows are set aside, or all of them.

        Rows that say themselves that they are not to be learnt count only if none is left.
        """
        chosen = sum(len(rows) for refusal, rows in self.rows.items() if refusal.rule is Rule.NOT_LEARNT)
        lost = self.count() - chosen
        if self.count() < total and lost <= MAX_SHARE * (total - chosen):
            return
        refusal, rows = self._by_frequency()[0]
        remedy = self._remedy(refusal)
        share = "" if len(rows) == self.count() else f", {len(rows)} of them for this reason"
        examples = ", ".join(row.id for row in rows[:MAX_EXAMPLES])
        raise remedy.error(
            f"{self.count()} of {total} rows cannot be trained on{share}: {refusal} (for example row {examples}); "
            f"{remedy.advice}",
            field=remedy.field,
        )

    def _by_frequency(self) -> list[tuple[Refusal, list[Row]]]:
        return sorted(self.rows.items(), key=lambda item: -len(item[1]))

    def _remedy(self, refusal: Refusal) -> Remedy:
        if refusal.rule is Rule.TOO_LONG and self.limit is not None:
            return Remedy(self.limit.advice, BadConfiguration, self.limit.field)
        return REMEDIES[refusal.rule]


def place(row: Row) -> str:
    """Return where a row comes from, or its id if it does not say so."""
    return f"{row.source.file}:{row.source.line}" if row.source else row.id
