"""Write uploads for tests and read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contracts.rows import Row, Turn
from optimizer_worker.reading.dataset import ReadResult, read_dataset


def read(folder: Path, name: str = "train", **files: str | bytes) -> ReadResult:
    """Read files that are given by name, e.g. `a__csv` for a.csv."""
    for file, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / file.replace("__", ".")).write_bytes(data)
    return read_dataset(folder, name, "support-2026")


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def one_row(folder: Path, record: object) -> Row:
    (row,) = read(folder, a__jsonl=lines(record)).rows
    return row


def turns(folder: Path, *messages: object, **fields: object) -> tuple[Turn, ...]:
    """Return the turns of a row of these messages."""
    return one_row(folder, {"messages": messages, **fields}).turns


def reason(folder: Path, record: object) -> str:
    """Return why the record is set aside, beside one that is read."""
    (item,) = read(folder, a__jsonl=lines(record, chat("q", "a"))).unreadable
    return item.reason


def chat(question: str, answer: str, **of_answer: Any) -> dict[str, Any]:
    return {"messages": [said("user", question), said("assistant", answer, **of_answer)]}


def said(role: str, content: object, **fields: object) -> dict[str, object]:
    return {"role": role, "content": content, **fields}


def notes(reading: ReadResult, rule: str = "read_as") -> list[str]:
    return [notice.text for notice in reading.notices if notice.rule == rule]
