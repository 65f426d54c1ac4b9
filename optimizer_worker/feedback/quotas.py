"""Share the label budget among the weak slices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from contracts.report import DevReport
from infra.statistics import largest_remainders

SUGGESTED_SHARE = 0.5
"""Weight of the report's suggestions in a slice's quota; the slice's share of all errors has the rest."""


def slice_quotas(report: DevReport, budget: int) -> dict[str, int]:
    """Return the rows to draw for each slice that has bad cases; they sum to `budget`, or to 0 without bad cases."""
    cases = Counter(case.slice for case in report.bad_cases)
    mass = {part.name: part.rows * (1 - part.value) for part in report.slices}
    errors = _shares({name: mass.get(name, float(count)) for name, count in cases.items()})
    requested = {s.slice: float(s.rows) for s in report.suggestions if s.action == "add_rows" and s.slice in cases}
    suggested = _shares(requested) or errors
    combined = {
        name: (1 - SUGGESTED_SHARE) * errors[name] + SUGGESTED_SHARE * suggested.get(name, 0.0) for name in errors
    }
    quotas = dict(zip(combined, largest_remainders(list(combined.values()), budget), strict=True))
    return {name: rows for name, rows in quotas.items() if rows > 0}


def _shares(mass: Mapping[str, float]) -> dict[str, float]:
    total = sum(mass.values())
    return {name: value / total for name, value in sorted(mass.items())} if total > 0 else {}
