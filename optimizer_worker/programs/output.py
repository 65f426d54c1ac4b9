"""Write the output: rows, ledger, quarantine, drawn rows, report and, in the first iteration, the splits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson
from pydantic import BaseModel

from optimizer_worker.programs.report import optimizer_report
from optimizer_worker.spec import Result, Spec
from optimizer_worker.workspace import Workspace


def write(work: Workspace, spec: Spec, out: Path) -> Result:
    """Write the artifact's files and return the counts for the event."""
    _write_models(out / "train.jsonl", work.corpus.rows)
    _write_models(out / "quarantine.jsonl", work.corpus.quarantine)
    _write_lines(out / "ledger.jsonl", _ledger(work, spec), before=work.history)
    drawn = ({"id": row_id, "iteration": iteration} for row_id, iteration in work.drawn.items())
    _write_lines(out / "drawn.jsonl", map(orjson.dumps, drawn))
    if work.new_splits:
        _write_splits(work, out / "splits")
    report = optimizer_report(work, spec)
    (out / "report.json").write_text(report.model_dump_json(indent=1), encoding="utf-8")
    return Result(
        rows=report.rows,
        labels=report.labels,
        actions=report.actions,
        notices=report.notices,
        has_splits=work.new_splits,
    )


def _ledger(work: Workspace, spec: Spec) -> Iterable[bytes]:
    for decision in work.corpus.ledger:
        # orjson serialises dataclasses, but cannot insert a field before theirs.
        yield b'{"iteration":%d,' % spec.iteration + orjson.dumps(decision)[1:]


def _write_splits(work: Workspace, folder: Path) -> None:
    folder.mkdir()
    for name in ("dev", "test", "pool"):
        _write_models(folder / f"{name}.jsonl", getattr(work.splits, name))


def _write_models(path: Path, items: Iterable[BaseModel]) -> None:
    _write_lines(path, (item.model_dump_json().encode() for item in items))


def _write_lines(path: Path, lines: Iterable[bytes], before: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(before)
        file.writelines(line + b"\n" for line in lines)
