"""How the label budget is shared among the weak slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from contracts.report import DevReport
from infra.statistics import largest_remainders

SUGGESTED = 0.5
"""The part of a slice's share that the report's suggestions set; its share of all errors sets the rest."""


def slice_quotas(report: DevReport, budget: int) -> dict[str, int]:
    """Rows to draw for each slice that has bad cases; in all, `budget`, or nothing where there are none."""
    cases = Counter(case.slice for case in report.bad_cases)
    mass = {part.name: part.rows * (1 - part.value) for part in report.slices}
    errors = _shares({name: mass.get(name, float(count)) for name, count in cases.items()})
    asked = {s.slice: float(s.rows) for s in report.suggestions if s.action == "add_rows" and s.slice in cases}
    suggested = _shares(asked) or errors
    wanted = {name: (1 - SUGGESTED) * errors[name] + SUGGESTED * suggested.get(name, 0.0) for name in errors}
    drawn = dict(zip(wanted, largest_remainders(list(wanted.values()), budget), strict=True))
    return {name: rows for name, rows in drawn.items() if rows > 0}


def _shares(mass: Mapping[str, float]) -> dict[str, float]:
    total = sum(mass.values())
    return {name: value / total for name, value in sorted(mass.items())} if total > 0 else {}
