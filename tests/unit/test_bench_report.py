"""The report that the control benchmark makes from its readings."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.control.contestant import Promises
from benchmarks.control.readings import Sizes, medians, percentile
from benchmarks.control.report import ASKED, Results, summary, write

PROMISES = Promises(outbox="yes", inbox="yes", fence="yes", history="all", redelivery="soon")
OURS = dict.fromkeys(ASKED, 12.3456) | {"page_ms_at_100k": 5.0}
PEER = {"tasks_per_s": 1.0, "submit_per_s": 2.0, "idle_p50_ms": 3.0, "idle_p99_ms": 4.0}
RESULTS = Results(
    machine={"cores": "2"},
    runs=3,
    sizes=Sizes(tasks=1, submissions=1, idle=1, stored=1),
    promises={"treadle": PROMISES, "celery": PROMISES},
    treadle=OURS,
    peers={"celery": PEER},
    recoveries={"cancel_s": 0.01},
    readings={"treadle": [OURS], "celery": [PEER]},
)


def test_the_machine_readable_line_has_every_required_figure() -> None:
    line = json.loads(json.dumps(summary(RESULTS)))
    assert line["treadle"] == {**dict.fromkeys(ASKED, 12.35), "cancel_s": 0.01}
    assert line["peers"]["celery"]["idle_p50_ms"] == 3.0


def test_the_report_is_json_a_table_and_a_picture(tmp_path: Path) -> None:
    write(RESULTS, tmp_path)
    assert json.loads((tmp_path / "control.json").read_text())["runs"] == 3
    assert "| celery | 1 | 2 | 3 | 4 | yes | yes | yes | all | soon |" in (tmp_path / "control.md").read_text()
    assert (tmp_path / "control.png").stat().st_size > 0


def test_a_median_run_that_was_disturbed_does_not_count() -> None:
    assert medians([{"a": 1.0}, {"a": 2.0}, {"a": 900.0}]) == {"a": 2.0}


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([5.0, 1.0, 3.0], 0.99) == 5.0
    assert percentile([5.0, 1.0, 3.0], 0.5) == 3.0
