"""Writes the report: numbers as JSON, tables as Markdown, and a chart."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.control.chart import draw
from benchmarks.control.contestant import Promises
from benchmarks.control.readings import Reading, Sizes

ASKED = (
    "tasks_per_s",
    "submit_per_s",
    "submit_batched_per_s",
    "submit_p99_ms",
    "idle_p50_ms",
    "idle_p99_ms",
    "idle_broker_ms",
    "sql_per_event",
    "tasks_per_s_at_100k",
)
TARGETS = {
    "tasks_per_s": "≥ 350",
    "submit_per_s": "≥ 250",
    "submit_batched_per_s": "≥ 1500",
    "submit_p99_ms": "reported",
    "idle_p50_ms": "≤ 1.4 of what commit 310cd4f takes in alternating runs",
    "idle_p99_ms": "reported",
    "idle_broker_ms": "the broker's part of it, with nothing else running",
    "sql_per_event": "≤ 0.2",
    "tasks_per_s_at_100k": "≥ 0.8 of tasks_per_s",
    "page_ms_at_100k": "≤ 20",
    "short_worker_killed_s": "≤ 20",
    "train_worker_killed_s": "≤ 60",
    "broker_restarted_s": "≤ 1.5",
    "queue_deleted_s": "≤ 1.5",
    "database_restarted_s": "≤ 3",
    "control_killed_s": "≤ 2",
    "cancel_s": "≤ 1",
}


@dataclass(frozen=True)
class Results:
    """All results of one call of the benchmark."""

    machine: Mapping[str, str]
    runs: int
    sizes: Sizes
    promises: Mapping[str, Promises]
    """The guarantees of every contestant, by name."""
    treadle: Reading
    peers: Mapping[str, Reading]
    recoveries: Mapping[str, float]
    readings: Mapping[str, list[Reading]]

    @property
    def all(self) -> dict[str, Reading]:
        """The readings of Treadle, then those of its peers."""
        return {"treadle": self.treadle, **self.peers}


def summary(results: Results) -> dict[str, object]:
    """The content of the line of JSON that ends the output."""
    return {
        "treadle": _rounded({name: results.treadle[name] for name in ASKED} | dict(results.recoveries)),
        "peers": {name: _rounded(reading) for name, reading in results.peers.items()},
    }


def write(results: Results, folder: Path) -> None:
    """Write control.json, control.md and control.png."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        **summary(results),
        "machine": dict(results.machine),
        "runs": results.runs,
        "sizes": dataclasses.asdict(results.sizes),
        "readings": {name: [_rounded(run) for run in runs] for name, runs in results.readings.items()},
    }
    (folder / "control.json").write_text(json.dumps(whole, indent=2) + "\n")
    (folder / "control.md").write_text(_markdown(results))
    draw(results.all, folder / "control.png")


def _markdown(results: Results) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    return "\n".join(
        [
            "# The control plane compared with its peers",
            "",
            f"Medians of {results.runs} interleaved runs, {results.sizes.tasks} tasks each. {machine}.",
            "",
            *_comparison(results),
            "",
            "![tasks a second and idle latency](control.png)",
            "",
            "## Treadle against its targets",
            "",
            *_targets({**results.treadle, **results.recoveries}),
            "",
        ]
    )


def _comparison(results: Results) -> list[str]:
    head = ["", "tasks/s", "submissions/s", "idle p50 ms", "p99 ms", *_promise_names()]
    return _table(head, [_row(name, reading, results.promises[name]) for name, reading in results.all.items()])


def _row(name: str, reading: Reading, promises: Promises) -> list[str]:
    numbers = [f"{reading[key]:.4g}" for key in ("tasks_per_s", "submit_per_s", "idle_p50_ms", "idle_p99_ms")]
    return [name, *numbers, *dataclasses.astuple(promises)]


def _promise_names() -> list[str]:
    return [field.name for field in dataclasses.fields(Promises)]


def _targets(reading: Mapping[str, float]) -> list[str]:
    rows = [[name, f"{reading[name]:.4g}", target] for name, target in TARGETS.items() if name in reading]
    return _table(["", "measured", "must reach"], rows)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _rounded(reading: Reading) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in reading.items()}
