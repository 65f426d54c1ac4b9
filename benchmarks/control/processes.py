"""Processes of a contestant: started from this interpreter, their output kept, killed when the measurement ends."""

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
        """Nothing runs yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all, those that do not heed SIGTERM too."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def python(self, name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start `python arguments…` as `name`; a second start under a name takes the first one's place."""
        self._folder.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *arguments], env=env, stdout=log, stderr=log, cwd=self._folder
            )

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self._running[name].send_signal(signal.SIGKILL)
        self._running[name].wait()

    def forget(self, name: str) -> None:
        """It was ended on purpose, and is not missed."""
        del self._running[name]

    def pid(self, name: str) -> int:
        """The process id of one."""
        return self._running[name].pid

    def log(self, name: str) -> Path:
        """Where its output goes."""
        return self._folder / f"{name}.log"

    def check(self) -> None:
        """Raises RuntimeError with the end of the log where one has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: {self.log(name).read_text()[-2000:]}")


def environment(settings: Settings, **more: object) -> dict[str, str]:
    """The variables that say to another process what `settings` says here."""
    given = settings.model_dump(exclude={"models"})
    plain = {name: getattr(value, "get_secret_value", lambda v=value: v)() for name, value in given.items()}
    return {f"TREADLE_{name.upper()}": str(value) for name, value in {**plain, **more}.items() if value is not None}
