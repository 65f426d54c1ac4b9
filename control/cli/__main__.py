"""`python -m control.cli` is `treadle`."""

from __future__ import annotations

from control.cli.main import app

app()
