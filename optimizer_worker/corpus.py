"""The training rows on their way through the rules, with the ledger and the quarantine they leave behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from contracts.rows import Row
from optimizer_worker.ledger import Action, Verdict
from optimizer_worker.quarantine import Quarantined


class Corpus:
    """Rules look at `rows` and give verdicts; only `apply` changes what is here."""

    def __init__(self, rows: Iterable[Row], quarantine: Iterable[Quarantined] = ()) -> None:
        self._rows = {row.id: row for row in rows}
        self.ledger: list[Verdict] = []
        self.quarantine = list(quarantine)
        self.actions: Counter[str] = Counter()
        """Rule to the number of rows that it touched."""

    @property
    def rows(self) -> list[Row]:
        """The rows that are still in, in their order."""
        return list(self._rows.values())

    def row(self, row_id: str) -> Row:
        """A row that is still in."""
        return self._rows[row_id]

    def replace(self, rows: Iterable[Row]) -> None:
        """Put changed rows in the place of those with their ids."""
        self._rows.update((row.id, row) for row in rows)

    def apply(self, verdicts: Iterable[Verdict]) -> None:
        """Do what the verdicts say, once a row: a row that is already out is left alone."""
        for verdict in verdicts:
            if verdict.row in self._rows:
                self._record(verdict)
                if verdict.action is Action.QUARANTINED:
                    self._set_aside(self._rows[verdict.row], verdict)
                if verdict.action.removes:
                    del self._rows[verdict.row]

    def add(self, rows: Iterable[Row], verdicts: Iterable[Verdict]) -> None:
        """Take rows in, with the verdicts that say why."""
        self.replace(rows)
        for verdict in verdicts:
            self._record(verdict)

    def hold_out(self, rows: Sequence[Row], name: str, *, told: bool) -> None:
        """Move rows to a split. Of a sealed split only the number is told, and what was told before is taken back."""
        moved = {row.id for row in rows}
        for row_id in moved:
            del self._rows[row_id]
        self.actions[f"held_out_{name}"] += len(moved)
        if told:
            self.ledger += [Verdict(row.id, Action.HELD_OUT, name) for row in rows]
        else:
            self.ledger = [verdict for verdict in self.ledger if verdict.row not in moved]

    def keep(self) -> None:
        """Record every row that is in and of which nothing was said before."""
        told = {verdict.row for verdict in self.ledger}
        self.ledger += [Verdict(row_id, Action.KEPT, "passed") for row_id in self._rows if row_id not in told]

    def release(self, verdicts: Iterable[Verdict]) -> None:
        """Take quarantined rows back in."""
        chosen = {verdict.row: verdict for verdict in verdicts}
        back = [item.row for item in self.quarantine if item.row and item.row.id in chosen]
        self.quarantine = [item for item in self.quarantine if not (item.row and item.row.id in chosen)]
        self.add(back, [chosen[row.id] for row in back])

    def _record(self, verdict: Verdict) -> None:
        self.ledger.append(verdict)
        self.actions[verdict.rule] += 1

    def _set_aside(self, row: Row, verdict: Verdict) -> None:
        self.quarantine.append(Quarantined(rule=verdict.rule, reason=verdict.reason, row=row))
