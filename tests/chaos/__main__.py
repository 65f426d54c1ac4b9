"""`python -m tests.chaos --tasks 10000 --faults 200 --seed 1`: run Treadle with faults and report every violation."""

from __future__ import annotations

import argparse
import asyncio
import sys

from infra.logs import configure_logs
from infra.settings import Settings
from tests.chaos.run import run


def main() -> int:
    """Return exit status 1 if a promise was broken. The last line of standard output is one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.tasks < 1 or options.faults < 1:
        parser.error("--tasks and --faults: expected 1 or more")
    # The faults also break the connections of this process, so most of its log would be about them.
    configure_logs(Settings(log_level="CRITICAL"), "chaos")
    verdict = asyncio.run(run(options.tasks, options.faults, options.seed))
    print(verdict.summary, file=sys.stderr)
    if verdict.violations:
        print(f"{verdict.folder} contains the faults, the logs and violations.json", file=sys.stderr)
    print(verdict.as_json())
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
