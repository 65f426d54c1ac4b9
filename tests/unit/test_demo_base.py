"""The demo's tiny model: if it cannot be made, the error gives the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.demo.run import DemoFailed, make_base
from infra.child.fork_server.client import ForkServer


async def test_the_error_gives_the_reason_why_the_tiny_model_cannot_be_made(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("no JSON\n")
    with pytest.raises(DemoFailed, match=r"could not be made: .*texts\.jsonl:1: expected a JSON object with `text`"):
        await make_base(tmp_path / "base", texts, seed=1, fork_server=ForkServer([]))
