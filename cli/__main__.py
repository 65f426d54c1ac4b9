"""`python -m cli` runs the command `treadle`."""

from __future__ import annotations

from cli.main import app

app()
