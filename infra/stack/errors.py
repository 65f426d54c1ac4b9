"""Errors of the local stack."""

from __future__ import annotations

from pathlib import Path

from contracts.errors import TreadleError


class StackFailed(TreadleError):
    """A server of the local stack did not start; the text says why and what to do, and names its log."""


def not_started(name: str, cause: str, log: Path | None = None) -> StackFailed:
    """The failure of the server `name`; `log` has the details."""
    return StackFailed(f"{name} did not start: {cause}" + (f" (log: {log})" if log else ""))
