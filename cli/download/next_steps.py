"""What to type after a download."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cli.download.adapters import README
from cli.download.layout import Layout
from contracts.files import Folder


def next_steps(folder: Path, layout: Layout) -> Iterator[str]:
    """Sentences about the parts that were downloaded; `folder` is absolute."""
    paths = {file.path for file in layout.files}
    match layout.adapters:
        case []:
            if any(path.startswith(f"{Folder.MODEL}/") for path in paths):
                yield f"load the model with: AutoModelForCausalLM.from_pretrained({str(folder / Folder.MODEL)!r})"
        case [adapter]:
            yield f"load the adapter with: AutoPeftModelForCausalLM.from_pretrained({str(folder / adapter)!r})"
        case _:
            yield f"the model is a base and {len(layout.adapters)} adapters: {folder / README} says how to merge them"
    if f"{Folder.DATA}/ledger.jsonl" in paths:
        yield f"what happened to each row: {folder / Folder.DATA / 'ledger.jsonl'} and quarantine.jsonl beside it"
    if f"{Folder.REPORT}/dev_report.json" in paths:
        yield f"scores and bad cases: {folder / Folder.REPORT / 'dev_report.json'}"
