"""`make bench BENCH=start`: from the grant of a claim to the first line of the program's `main`, on two roads."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.control.machine import describe
from benchmarks.start.control import PROGRAM, Granting
from infra.artifacts import upload
from infra.bus.inprocess import InProcessBus
from infra.child.fork_server.client import ForkServer
from infra.logs import configure_logs
from infra.loop import run
from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings
from infra.stack.s3 import S3Node
from infra.worker.host import WorkerHost

RESULTS = Path(__file__).parents[1] / "results" / "start.json"
LIMIT = 0.3
"""Seconds that the median with the fork server may take."""
INPUT_BYTES = 2**20


@dataclass(frozen=True)
class Road:
    """One way to start programs."""

    name: str
    granting: Granting


def main() -> None:
    """Parse the options, measure, write the readings, and print a table and one line of JSON."""
    options = _options(sys.argv[1:])
    with TemporaryDirectory(prefix="treadle-bench-") as folder:
        seconds = run(_measure(Path(folder), options.runs))
    console = Console(stderr=True)
    table = Table("started by", "median s", "fastest", "slowest", "runs")
    for name, readings in seconds.items():
        low, high = min(readings), max(readings)
        table.add_row(name, f"{statistics.median(readings):.3f}", f"{low:.3f}", f"{high:.3f}", str(len(readings)))
    console.print(table)
    medians = {name: round(statistics.median(readings), 3) for name, readings in seconds.items()}
    summary = {"bench": "start", **medians, "limit": LIMIT, "reached": medians["fork"] <= LIMIT}
    options.out.write_text(json.dumps({"machine": describe(), **summary, "readings": seconds}, indent=1) + "\n")
    print(json.dumps(summary))  # noqa: T201 - the last line of output is for programs


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH=start ARGS=…", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="jobs started on each road (default 15)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the readings")
    return parser.parse_args(arguments)


async def _measure(folder: Path, runs: int) -> dict[str, list[float]]:
    """Start jobs on both roads alternately; returns the seconds of each road."""
    async with AsyncExitStack() as stack:
        objects, settings = await _store(folder, stack)
        fork_server = ForkServer([PROGRAM])
        stack.push_async_callback(fork_server.close)
        await fork_server.start()
        roads = [
            Road("fork", await _worker(settings, objects, fork_server, stack)),
            Road("exec", await _worker(settings, objects, None, stack)),
        ]
        for road in roads:
            await road.granting.measure()  # the server does its imports, and the disk's cache is filled
        seconds: dict[str, list[float]] = {road.name: [] for road in roads}
        for _ in track(range(runs), "starting jobs", console=Console(stderr=True)):
            for road in roads:
                seconds[road.name].append(await road.granting.measure())
        return seconds


async def _store(folder: Path, stack: AsyncExitStack) -> tuple[ObjectStore, Settings]:
    """A local object store, and the settings of its workers."""
    node = S3Node(folder / "s3")
    await node.start()
    stack.push_async_callback(node.stop)
    settings = Settings(
        bus_url=SecretStr(IN_PROCESS),
        s3_endpoint=node.endpoint,
        s3_access_key=SecretStr(node.access_key),
        s3_secret_key=SecretStr(node.secret_key),
        work_dir=folder / "work",
        log_level="WARNING",
    )
    configure_logs(settings, "bench")
    objects = ObjectStore(settings)
    stack.push_async_callback(objects.close)
    await objects.start()
    return objects, settings


async def _worker(
    settings: Settings, objects: ObjectStore, fork_server: ForkServer | None, stack: AsyncExitStack
) -> Granting:
    """A running worker on a bus of its own."""
    bus = InProcessBus()
    await bus.start()
    stack.push_async_callback(bus.close)
    granting = Granting(bus)
    await granting.start()
    with TemporaryDirectory() as rows:
        (Path(rows) / "train.jsonl").write_bytes(bytes(INPUT_BYTES))
        await upload(objects, granting.input, Path(rows))
    name = "exec" if fork_server is None else "fork"
    own = settings.model_copy(update={"worker_id": name})
    host = WorkerHost(granting.worker(), bus, objects, own, fork_server)
    await host.start()
    stack.push_async_callback(host.stop)
    return granting


if __name__ == "__main__":
    main()
