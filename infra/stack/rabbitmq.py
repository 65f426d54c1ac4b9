"""A private RabbitMQ node, apart from any that the system runs: own files, own ports, own password, on loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

from infra.stack.child import Child
from infra.stack.errors import StackFailed
from infra.stack.ports import LOOPBACK, accepts, free_ports
from infra.stack.secrets import kept_secret, write_private

USER = "treadle"
NODE = "treadle@localhost"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
RAW_SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Debian wraps the scripts on PATH so that they run as the user `rabbitmq` only; these are the scripts within."""
BOOT_TIMEOUT = 120.0


def rabbitmq_script(name: str) -> str | None:
    """The path of one of RabbitMQ's scripts; None where RabbitMQ, or the Erlang that it needs, is not installed."""
    raw = RAW_SCRIPTS / name
    found = str(raw) if raw.exists() else shutil.which(name)
    return found if shutil.which("erl") else None


class RabbitMQNode:
    """One node with its own port mapper (epmd): started by RabbitMQ itself, that would outlive it."""

    def __init__(self, folder: Path, hold: int | None = None) -> None:
        self._folder = folder
        self._hold = hold
        self._port = 0
        self._password = ""
        self._env: dict[str, str] = {}
        self._node = Child("RabbitMQ", folder / "server.log")
        self._epmd = Child("epmd", folder / "epmd.log")

    async def start(self) -> None:
        """Boot it (about four seconds) on free ports."""
        server, epmd = rabbitmq_script("rabbitmq-server"), _epmd()
        if server is None:
            raise StackFailed("rabbitmq-server is missing: apt-get install rabbitmq-server, or set TREADLE_BUS_URL")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._password = kept_secret(self._folder / "password")
        self._port, distribution, mapper = free_ports(3)
        self._configure(distribution, mapper)
        self._epmd.start([epmd, "-port", str(mapper), "-address", LOOPBACK], env=self._env, hold=self._hold)
        await self._epmd.ready(lambda: accepts(mapper))
        self._node.start([server], env=self._env, hold=self._hold)
        await self._node.ready(lambda: accepts(self._port, PROTOCOL_HEADER), BOOT_TIMEOUT)

    async def stop(self) -> None:
        """End the node, then its port mapper."""
        await self._node.stop()
        await self._epmd.stop()

    async def stop_app(self) -> None:
        """Stop the broker and keep the Erlang node: every connection drops, as in a restart. For tests."""
        await self.control("stop_app")

    async def start_app(self) -> None:
        """Start the broker again, and wait until it accepts."""
        await self.control("start_app")
        await self._node.ready(lambda: accepts(self._port, PROTOCOL_HEADER), BOOT_TIMEOUT)

    async def control(self, *arguments: str) -> str:
        """The output of a rabbitmqctl command on this node (about a second). Raises StackFailed."""
        return await asyncio.to_thread(self._control, arguments)

    @property
    def pid(self) -> int | None:
        """The node's process id while it runs."""
        return self._node.pid

    @property
    def url(self) -> str:
        """Its address, with the password."""
        return f"amqp://{USER}:{self._password}@{LOOPBACK}:{self._port}/"

    @property
    def version(self) -> str:
        """E.g. "3.10.8", from the folder that the server's script lies in."""
        script = rabbitmq_script("rabbitmq-server") or ""
        home = Path(script).resolve().parent.parent.name
        return home.removeprefix("rabbitmq_server-") if home.startswith("rabbitmq_server-") else "(version unknown)"

    def _control(self, arguments: tuple[str, ...]) -> str:
        script = rabbitmq_script("rabbitmqctl")
        assert script is not None, "installed with the server"
        done = subprocess.run([script, "--quiet", *arguments], env=self._env, capture_output=True, text=True)
        if done.returncode:
            raise StackFailed(f"rabbitmqctl {' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _configure(self, distribution: int, mapper: int) -> None:
        config = {
            "listeners.tcp.1": f"{LOOPBACK}:{self._port}",
            "default_user": USER,
            "default_pass": self._password,
            "log.console": "true",
            "log.file": "false",
        }
        write_private(self._folder / "rabbitmq.conf", "".join(f"{key} = {value}\n" for key, value in config.items()))
        (self._folder / "enabled_plugins").write_text("[].\n")
        self._env = {
            "PATH": os.environ.get("PATH", ""),
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node, and the node gets our signals
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "rabbitmq-env.conf"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            # without busy waiting: the schedulers' spinning takes the cores that training needs
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }


def _epmd() -> str:
    """The port mapper: on PATH, or within the Erlang that `erl` belongs to."""
    if found := shutil.which("epmd"):
        return found
    erlang = Path(shutil.which("erl") or "").resolve().parent
    for candidate in erlang.parent.glob("erts-*/bin/epmd"):
        return str(candidate)
    raise StackFailed("epmd, a part of Erlang, is missing")
