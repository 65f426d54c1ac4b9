"""The training rows while the rules are applied, with their ledger and quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from contracts.rows import Row
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.losses import check_loss
from optimizer_worker.quarantine import Quarantined


class Corpus:
    """Training rows, ledger and quarantine; a rule reads `rows` and returns decisions, which `apply` carries out."""

    def __init__(self, rows: Iterable[Row], quarantine: Iterable[Quarantined] = ()) -> None:
        self._rows = {row.id: row for row in rows}
        self.ledger: list[RuleDecision] = []
        self.quarantine = list(quarantine)
        self.actions: Counter[str] = Counter()
        """Number of rows that each rule changed."""

    @property
    def rows(self) -> list[Row]:
        """The current training rows, in their original order."""
        return list(self._rows.values())

    def replace(self, rows: Iterable[Row]) -> None:
        """Replace the rows with the same ids, or append new ones."""
        self._rows.update((row.id, row) for row in rows)

    def apply(self, decisions: Sequence[RuleDecision], max_loss: float = 1.0) -> None:
        """Carry out the decisions; a decision about a removed row is ignored.

        Raises BadInput if a rule would remove more than the share `max_loss` of the rows.
        """
        check_loss(decisions, self._rows, max_loss)
        for decision in decisions:
            if decision.row in self._rows:
                self._record(decision)
                if decision.action is Action.QUARANTINED:
                    self._quarantine_row(self._rows[decision.row], decision)
                if decision.action.removes:
                    del self._rows[decision.row]

    def add(self, rows: Iterable[Row], decisions: Iterable[RuleDecision]) -> None:
        """Add rows and record the decisions that explain them."""
        self.replace(rows)
        for decision in decisions:
            self._record(decision)

    def hold_out(self, rows: Sequence[Row], name: str, *, in_ledger: bool) -> None:
        """Move rows to a split.

        Without `in_ledger`, for a sealed split, only their number is recorded and their ledger entries are deleted.
        """
        moved = {row.id for row in rows}
        for row_id in moved:
            del self._rows[row_id]
        self.actions[f"held_out_{name}"] += len(moved)
        if in_ledger:
            self.ledger += [RuleDecision(row.id, Action.HELD_OUT, name) for row in rows]
        else:
            self.ledger = [decision for decision in self.ledger if decision.row not in moved]

    def keep(self) -> None:
        """Record every current row that has no ledger entry yet as kept."""
        recorded = {decision.row for decision in self.ledger}
        self.ledger += [RuleDecision(row_id, Action.KEPT, "passed") for row_id in self._rows if row_id not in recorded]

    def release(self, decisions: Iterable[RuleDecision]) -> None:
        """Move quarantined rows back to the training rows."""
        chosen = {decision.row: decision for decision in decisions}
        released = [item.row for item in self.quarantine if item.row and item.row.id in chosen]
        self.quarantine = [item for item in self.quarantine if not (item.row and item.row.id in chosen)]
        self.add(released, [chosen[row.id] for row in released])

    def _record(self, decision: RuleDecision) -> None:
        self.ledger.append(decision)
        self.actions[decision.rule] += 1

    def _quarantine_row(self, row: Row, decision: RuleDecision) -> None:
        self.quarantine.append(Quarantined(rule=decision.rule, reason=decision.reason, row=row))
