"""`python -m cli` is `treadle`."""

from __future__ import annotations

from cli.main import app

app()
