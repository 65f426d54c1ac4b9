"""The pages of lists whose answers are plain arrays."""

from __future__ import annotations

from pydantic import Field

from contracts.options import Options
from control.gateway.integers import Digits

MAX_SIZE = 1000
"""Entries of one page."""


class PageQuery(Options):
    """Which page of a list to return; a page with fewer entries than `page_size` is the last one."""

    page: Digits = Field(default=1, ge=1, le=1_000_000)
    page_size: Digits = Field(default=MAX_SIZE, ge=1, le=MAX_SIZE)
