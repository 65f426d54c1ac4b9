"""The processes of a contestant: run by this interpreter, with log files, and ended after the measurement."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.settings import Settings

ROOT = Path(__file__).parents[2]


class Processes:
    """A group of processes that end together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Start with no process."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes by SIGTERM, and after 10 s by SIGKILL."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def python(self, name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start `python arguments…` as `name`; a second start under a name replaces the first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *arguments], env=env, stdout=log, stderr=log, cwd=self._folder
            )

    def kill(self, name: str) -> None:
        """Send SIGKILL and wait for the end."""
        self._running[name].send_signal(signal.SIGKILL)
        self._running[name].wait()

    def forget(self, name: str) -> None:
        """Remove a process that was ended on purpose, so that `check` does not report it."""
        del self._running[name]

    def pid(self, name: str) -> int:
        """The process id."""
        return self._running[name].pid

    def log(self, name: str) -> Path:
        """The file with the output of a process."""
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Raise RuntimeError with the end of the log if a process has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: {self.log(name).read_text()[-2000:]}")


def environment(settings: Settings, **more: object) -> dict[str, str]:
    """The environment variables that give another process these settings, with changes from `more`."""
    given = settings.model_dump(exclude={"models"})
    plain = {name: getattr(value, "get_secret_value", lambda v=value: v)() for name, value in given.items()}
    return {f"TREADLE_{name.upper()}": str(value) for name, value in {**plain, **more}.items() if value is not None}
