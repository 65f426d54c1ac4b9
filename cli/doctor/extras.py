"""The checks of `treadle doctor` that depend on what runs on this machine: the extras, and what is not a worker's."""

from __future__ import annotations

from enum import Enum

from cli.doctor.checks import Check, CheckState
from cli.extras import PACKAGES, Extra, install, installed_version, missing
from cli.options import DEFAULT_URL
from infra.settings import Settings


class RunsHere(Enum):
    """The services of this machine, by the variables that are set."""

    ANYTHING = "no address is set, so it may be all of `treadle up`"
    CONTROL = "it has a database"
    WORKER = "it has a broker or an object store, and no database"


NEEDED_BY = {
    Extra.LOCAL: "only `treadle up` and `treadle demo` need it",
    Extra.REPORT: "only `treadle demo` needs it",
    Extra.TRAIN: "only workers need it",
}
NEEDED_ON = {
    Extra.LOCAL: {RunsHere.ANYTHING},
    Extra.REPORT: set[RunsHere](),
    Extra.TRAIN: {RunsHere.ANYTHING, RunsHere.WORKER},
}
"""Where a missing extra is broken; elsewhere it is optional."""
SHOWN = 3
"""Packages whose versions are shown."""


def runs_here(settings: Settings) -> RunsHere:
    """What the TREADLE_… variables say about this machine: control has a database, a worker does not."""
    given = settings.model_fields_set
    if "database_url" in given:
        return RunsHere.CONTROL
    return RunsHere.WORKER if given & {"bus_url", "s3_endpoint"} else RunsHere.ANYTHING


def extra_checks(settings: Settings) -> list[Check]:
    """Check that the packages of each extra are installed, without importing them."""
    return [_extra(extra, runs_here(settings)) for extra in Extra]


def _extra(extra: Extra, here: RunsHere) -> Check:
    name, lacking = f"{extra} extra", missing(extra)
    if not lacking:
        versions = (f"{package} {installed_version(package) or ''}".strip() for package in PACKAGES[extra][:SHOWN])
        return Check(name, CheckState.FINE, ", ".join(versions))
    detail = f"missing: {', '.join(lacking)}; {NEEDED_BY[extra]}"
    state = CheckState.BROKEN if here in NEEDED_ON[extra] else CheckState.OPTIONAL
    return Check(name, state, detail, f"type {install(extra)}")


def unneeded(settings: Settings, url: str) -> dict[str, Check]:
    """The components that a worker does not use, each with a check that says so; none on other machines."""
    if runs_here(settings) is not RunsHere.WORKER:
        return {}
    variables = {"database": "TREADLE_DATABASE_URL"} | ({"gateway": "TREADLE_URL"} if url == DEFAULT_URL else {})
    return {
        name: Check(
            name,
            CheckState.OPTIONAL,
            f"not checked: {variable} is not set, and a worker needs no {name}",
            f"treadle doctor --only {name}",
        )
        for name, variable in variables.items()
    }
