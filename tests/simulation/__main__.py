"""Run simulations by hand: `python -m tests.simulation --seed 7` replays one, `--seeds 50` looks for trouble."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.run import STEPS, Report, simulate
from tests.simulation.world import Violation


def main() -> int:
    """Exit status 1 where a promise did not hold."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=1, help="the first seed")
    options.add_argument("--seeds", type=int, default=1, help="how many, one after another")
    options.add_argument("--steps", type=int, default=STEPS, help="the least number of steps of each")
    given = options.parse_args()
    for seed in range(given.seed, given.seed + given.seeds):
        started = time.perf_counter()
        try:
            report = simulate(seed, given.steps)
        except Violation as violation:
            traceback.print_exception(violation)
            print(f"again: python -m tests.simulation --seed {seed} --steps {given.steps}")
            return 1
        print(_line(report, time.perf_counter() - started))
    return 0


def _line(report: Report, seconds: float) -> str:
    steps = ", ".join(f"{count} {kind}" for kind, count in sorted(report.steps.items()))
    return (
        f"seed {report.seed}: {report.total} steps ({steps}), {report.tasks} tasks, "
        f"{report.crashes.total()} deaths at named points, {report.seconds:.0f} virtual seconds in {seconds:.1f} s, "
        f"digest {report.digest}"
    )


if __name__ == "__main__":
    sys.exit(main())
