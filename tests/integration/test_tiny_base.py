"""The program that makes the demo's base model, with small sizes."""

from __future__ import annotations

import json
from pathlib import Path

from infra.child import program
from trainer_worker.programs import tiny_base


def make(folder: Path, texts: bytes) -> int:
    """Run the program on a file with these lines and return its exit status."""
    (folder / "texts.jsonl").write_bytes(texts)
    sizes = {"vocabulary": 300, "hidden": 16, "intermediate": 16, "layers": 1, "heads": 1, "context": 32}
    (folder / "spec.json").write_text(json.dumps({"texts": str(folder / "texts.jsonl"), **sizes}))
    return program.run(tiny_base.__name__, folder, tiny_base)  # type: ignore[arg-type]


def test_a_unicode_line_separator_inside_a_text_does_not_end_its_line(tmp_path: Path) -> None:
    assert make(tmp_path, '{"text": "before\u2028after\u0085"}\n{"text": "next"}\n'.encode()) == 0


def test_a_line_that_is_not_utf_8_is_bad_input_with_its_place(tmp_path: Path) -> None:
    make(tmp_path, b'{"text": "a"}\n{"text": "caf\xe9"}\n')
    failed = json.loads((tmp_path / "error.json").read_bytes())
    assert (failed["failure"], failed["field"]) == ("bad_input", "texts.jsonl:2")
