"""`python -m tests.attack --size 10000 --seed 1`: attack a real stack and report what stood still and what was lost."""

from __future__ import annotations

import argparse
import asyncio
import sys

from infra.logs import configure_logs
from infra.settings import Settings
from tests.attack.classes import CLASSES
from tests.attack.fuzz import prepare
from tests.attack.run import run


def main() -> int:
    """Return exit status 1 if anything stood still, a promise was broken, or anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--size", type=int, default=10_000, help="inputs of each fuzzer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=sorted(CLASSES), action="append", help="only this class of abuses")
    options = parser.parse_args()
    if options.size < 1:
        parser.error("--size: expected 1 or more")
    configure_logs(Settings(log_level="CRITICAL"), "attack")
    chosen = {name: abuses for name, abuses in CLASSES.items() if name in (options.only or CLASSES)}
    print(
        f"drawing {options.size} hostile messages for each exchange; 10,000 take about three minutes", file=sys.stderr
    )
    hostile = prepare(options.size, options.seed) if "messages" in chosen else {}
    verdict = asyncio.run(run(chosen, options.size, options.seed, hostile))
    print(verdict.as_json())
    return 1 if verdict.failed else 0


if __name__ == "__main__":
    sys.exit(main())
