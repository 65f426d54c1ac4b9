"""`make bench BENCH=control`: measures every contestant several times, then the recoveries, and writes the report."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.control.machine import describe
from benchmarks.control.peers import PEERS
from benchmarks.control.readings import Reading, Sizes, medians, read_peer, read_treadle
from benchmarks.control.recovery import RECOVERIES
from benchmarks.control.report import Results, summary, write
from benchmarks.control.servers import Servers, serving
from benchmarks.control.treadle import Treadle
from infra.loop import run

RESULTS = Path(__file__).parents[1] / "results"
FULL = Sizes(tasks=2000, submissions=1000, idle=100, stored=100_000)
QUICK = Sizes(tasks=200, submissions=100, idle=15, stored=2_000)
QUICK_RECOVERIES = ("cancel_s", "control_killed_s", "broker_restarted_s", "queue_deleted_s", "database_restarted_s")


@dataclass(frozen=True)
class Step:
    """One measurement of one contestant."""

    name: str
    measure: Callable[[Servers, Path], Awaitable[Reading]]


def main() -> None:
    """Parse the options, measure, write the report, and print one line of JSON."""
    options = _options(sys.argv[1:])
    results = run(_measure(options))
    write(results, options.out)
    print(json.dumps(summary(results)))  # noqa: T201 - the last line of output is for programs


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench BENCH=control ARGS=…", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure everything once with small sizes, as a trial")
    parser.add_argument(
        "--runs", type=_positive, help="number of runs; the report has their medians (default 5, with --quick 1)"
    )
    parser.add_argument(
        "--tasks", type=_positive, help=f"number of tasks for the throughput of each run (default {FULL.tasks})"
    )
    parser.add_argument(
        "--stored", type=_positive, help=f"number of tasks in the full database (default {FULL.stored})"
    )
    parser.add_argument(
        "--peers",
        default=",".join(PEERS),
        help="names of peers, separated by commas, or 'none' (default: all)",
    )
    parser.add_argument(
        "--no-recoveries", action="store_true", help="do not measure the recoveries from kills and restarts"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the report")
    options = parser.parse_args(arguments)
    options.peers = [] if options.peers == "none" else options.peers.split(",")
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"--peers: {', '.join(sorted(unknown))}: expected names among {', '.join(PEERS)}, or none")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return number


def _sizes(options: argparse.Namespace) -> Sizes:
    base = QUICK if options.quick else FULL
    return Sizes(options.tasks or base.tasks, base.submissions, base.idle, options.stored or base.stored)


async def _measure(options: argparse.Namespace) -> Results:
    sizes = _sizes(options)
    runs = options.runs or (1 if options.quick else 5)
    contestants = [
        Step(Treadle.name, partial(read_treadle, sizes=sizes)),
        *(Step(name, partial(read_peer, PEERS[name], sizes=sizes)) for name in options.peers),
    ]
    recoveries = [] if options.no_recoveries else QUICK_RECOVERIES if options.quick else tuple(RECOVERIES)
    steps = [
        *(step for _ in range(runs) for step in contestants),
        *(Step(name, partial(_recovery, name)) for name in recoveries),
    ]
    readings = await _all(steps)
    return Results(
        machine=describe(),
        runs=runs,
        sizes=sizes,
        promises={Treadle.name: Treadle.promises, **{name: PEERS[name].promises for name in options.peers}},
        treadle=medians(readings[Treadle.name]),
        peers={name: medians(readings[name]) for name in options.peers},
        recoveries={name: readings[name][0][name] for name in recoveries},
        readings={step.name: readings[step.name] for step in contestants},
    )


async def _recovery(name: str, servers: Servers, folder: Path) -> Reading:
    return {name: await RECOVERIES[name](servers, folder)}


async def _all(steps: Sequence[Step]) -> dict[str, list[Reading]]:
    """The readings of every step; contestants alternate, so that a slow period of the machine affects all."""
    readings: dict[str, list[Reading]] = {step.name: [] for step in steps}
    with TemporaryDirectory(prefix="treadle-bench-out-") as folder, _progress() as progress:
        bar = progress.add_task("servers", total=len(steps))
        async with serving() as servers:
            for number, step in enumerate(steps):
                progress.update(bar, description=step.name)
                reading = await step.measure(servers, Path(folder) / str(number))
                readings[step.name].append(reading)
                progress.console.print(f"{step.name:<22} {_formatted(reading)}")
                progress.advance(bar)
    return readings


def _progress() -> Progress:
    """A progress bar with the remaining time, on standard error."""
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _formatted(reading: Reading) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in reading.items())


if __name__ == "__main__":
    main()
