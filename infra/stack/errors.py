"""What can go wrong when the local stack starts."""

from __future__ import annotations

from contracts.errors import TreadleError


class StackFailed(TreadleError):
    """A server of the local stack did not start; the text holds the end of its log."""
