"""`treadle up` runs the whole stack in one process, started and stopped as a user does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import httpx
import pytest

TREADLE = (sys.executable, "-m", "cli")


class Up:
    """A running `treadle up`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output: list[str] = []

    def wait_for(self, pattern: str) -> str:
        """Read the output until a line matches, and return the match."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if match := re.search(pattern, line):
                return match[0]
        raise AssertionError(f"no line matched {pattern!r}:\n{''.join(self.output)}")


@pytest.fixture
def up() -> Iterator[Up]:
    """Run `treadle up` in a folder outside pytest's, which the user that PostgreSQL runs as may not enter."""
    with TemporaryDirectory(prefix="treadle-test-up-") as folder:
        command = [*TREADLE, "up", "--folder", folder, "--port", "0", "--broker", "in-process"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            yield Up(process)
            process.kill()


def test_up_serves_prints_its_address_and_stops_cleanly(up: Up) -> None:
    url = up.wait_for(r"http://127\.0\.0\.1:\d+$")
    up.wait_for("^Ready")
    ready = httpx.get(f"{url}/readyz")
    up.process.send_signal(signal.SIGINT)
    up.wait_for("^Stopping")

    assert ready.json() == {"status": "ready"}
    assert up.process.wait(timeout=30) == 0
