"""Run simulations: `python -m tests.simulation --seed 7` runs one, `--seeds 50` runs 50 consecutive seeds."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.run import STEPS, Report, simulate
from tests.simulation.world import Violation


def main() -> int:
    """Return exit status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="the number of simulations, with consecutive seeds")
    parser.add_argument("--steps", type=int, default=STEPS, help="the minimum number of steps of each simulation")
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.seeds):
        started = time.perf_counter()
        try:
            report = simulate(seed, options.steps)
        except Violation as violation:
            traceback.print_exception(violation)
            print(f"to repeat it: python -m tests.simulation --seed {seed} --steps {options.steps}")
            return 1
        print(_line(report, time.perf_counter() - started))
    return 0


def _line(report: Report, seconds: float) -> str:
    steps = ", ".join(f"{count} {kind}" for kind, count in sorted(report.steps.items()))
    return (
        f"seed {report.seed}: {report.total} steps ({steps}), {report.tasks} tasks, "
        f"{report.crashes.total()} crashes at named points, {report.seconds:.0f} virtual seconds in {seconds:.1f} s, "
        f"digest {report.digest}"
    )


if __name__ == "__main__":
    sys.exit(main())
