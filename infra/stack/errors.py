"""Errors of the local stack."""

from __future__ import annotations

from contracts.errors import TreadleError


class StackFailed(TreadleError):
    """A server of the local stack did not start; the text contains the end of its log, if it wrote one."""
