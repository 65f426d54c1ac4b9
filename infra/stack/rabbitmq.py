"""A private RabbitMQ node on the loopback interface, with its own files, ports and password."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from contracts.roles import Role
from contracts.wire import MAX_BODY
from infra.private_folders import make_private
from infra.stack.broker_accounts import BrokerAccounts
from infra.stack.errors import StackFailed
from infra.stack.ports import LOOPBACK, accepts, free_ports
from infra.stack.secrets import write_private
from infra.stack.server_process import ServerProcess

USER = "treadle"
NODE = "treadle@localhost"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
RAW_SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Debian wraps the scripts on PATH so that they run only as the user `rabbitmq`; these are the unwrapped scripts."""
BOOT_TIMEOUT = 120.0
PORTS = "ports.json"
"""The file with the ports of the running node, by which other processes find it."""
NAMES, KNOWN_NAMES = "inetrc", '{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n'
"""Erlang's own table of names, so that the node starts on a machine whose `localhost` does not resolve."""


def rabbitmq_script(name: str) -> str | None:
    """The path of one of RabbitMQ's scripts; None if RabbitMQ or Erlang is not installed."""
    raw = RAW_SCRIPTS / name
    path = str(raw) if raw.exists() else shutil.which(name)
    return path if shutil.which("erl") else None


class RabbitMQNode:
    """One node and its port mapper (epmd), which would keep running if RabbitMQ started it."""

    def __init__(self, folder: Path, lock: int | None = None, *, management: bool = False) -> None:
        self._folder = folder
        self._lock = lock
        self._management = management
        self._port = self._management_port = 0
        self._accounts = BrokerAccounts(folder, USER)
        self._env: dict[str, str] = {}
        self._node = ServerProcess("RabbitMQ", folder / "server.log")
        self._epmd = ServerProcess("epmd", folder / "epmd.log")

    @classmethod
    def running_in(cls, folder: Path) -> Self:
        """The node that another process has started in `folder`, for `control` and `url`. Raises StackFailed."""
        self = cls(folder)
        try:
            ports = json.loads((folder / PORTS).read_text())
            self._port, mapper = int(ports["amqp"]), int(ports["mapper"])
        except (OSError, ValueError, KeyError):
            self._port = mapper = 0
        if not (mapper and accepts(mapper)):
            raise StackFailed(f"no RabbitMQ node runs in {folder}: start it with `treadle up --broker rabbitmq`")
        self._env = self._environment(mapper)
        return self

    @property
    def has_data(self) -> bool:
        """Whether an earlier start of the node left queues, which only a node of this name finds."""
        return (self._folder / "mnesia" / NODE).is_dir()

    async def start(self) -> None:
        """Start the node on free ports. Raises StackFailed."""
        server, epmd = rabbitmq_script("rabbitmq-server"), _epmd()
        if server is None:
            raise StackFailed("rabbitmq-server is missing: apt-get install rabbitmq-server, or set TREADLE_BUS_URL")
        make_private(self._folder)
        make_private(self._folder / "mnesia")
        self._port, self._management_port, distribution, mapper = free_ports(4)
        self._configure()
        self._env = {**self._environment(mapper), "RABBITMQ_DIST_PORT": str(distribution)}
        write_private(self._folder / PORTS, json.dumps({"amqp": self._port, "mapper": mapper}))
        self._epmd.start([epmd, "-port", str(mapper), "-address", LOOPBACK], env=self._env, inherit=self._lock)
        await self._epmd.ready(lambda: accepts(mapper))
        self._node.start([server], env=self._env, inherit=self._lock)
        await self._node.ready(lambda: accepts(self._port, PROTOCOL_HEADER), BOOT_TIMEOUT)

    async def stop(self) -> None:
        """Stop the node, then its port mapper."""
        await self._node.stop()
        await self._epmd.stop()

    async def stop_app(self) -> None:
        """Stop the broker but not the Erlang node; this closes every connection, as a restart does. For tests."""
        await self.control("stop_app")

    async def start_app(self) -> None:
        """Start the broker again and wait until it accepts connections."""
        await self.control("start_app")
        await self._node.ready(lambda: accepts(self._port, PROTOCOL_HEADER), BOOT_TIMEOUT)

    async def control(self, *arguments: str, stdin: str = "") -> str:
        """The output of a rabbitmqctl command on this node. Raises StackFailed."""
        return await asyncio.to_thread(self._control, arguments, stdin)

    @property
    def pid(self) -> int | None:
        """The node's process id while it runs."""
        return self._node.pid

    @property
    def url(self) -> str:
        """The URL of the broker with its administrator, password included."""
        return f"amqp://{USER}:{self._accounts.password()}@{self.address}"

    @property
    def address(self) -> str:
        """Host, port and virtual host."""
        return f"{LOOPBACK}:{self._port}/"

    @property
    def admin_url(self) -> str:
        """The URL of the management API with the administrator, password included; for tests."""
        return f"http://{USER}:{self._accounts.password()}@{LOOPBACK}:{self._management_port}"

    def url_of(self, role: Role) -> str:
        """The URL of the broker with the account of a role, password included."""
        return f"amqp://{role}:{self._accounts.password(role)}@{self.address}"

    @property
    def version(self) -> str:
        """For example "3.10.8", from the name of the folder that contains the server's script."""
        script = rabbitmq_script("rabbitmq-server") or ""
        home = Path(script).resolve().parent.parent.name
        return home.removeprefix("rabbitmq_server-") if home.startswith("rabbitmq_server-") else "(version unknown)"

    def _control(self, arguments: tuple[str, ...], stdin: str) -> str:
        script = rabbitmq_script("rabbitmqctl")
        assert script is not None, "rabbitmqctl is installed with the server"
        command = [script, "--quiet", *arguments]
        done = subprocess.run(command, env=self._env, input=stdin, capture_output=True, text=True)
        if done.returncode:
            raise StackFailed(f"rabbitmqctl {' '.join(arguments)} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def _configure(self) -> None:
        self._accounts.write()
        config = {
            "listeners.tcp.1": f"{LOOPBACK}:{self._port}",
            "max_message_size": str(MAX_BODY),
            "load_definitions": str(self._accounts.definitions),
            "log.console": "true",
            "log.file": "false",
        }
        if self._management:
            config |= {"management.tcp.ip": LOOPBACK, "management.tcp.port": str(self._management_port)}
        write_private(self._folder / "rabbitmq.conf", "".join(f"{key} = {value}\n" for key, value in config.items()))
        plugins = "rabbitmq_management" if self._management else ""
        write_private(self._folder / "enabled_plugins", f"[{plugins}].\n")
        write_private(self._folder / NAMES, KNOWN_NAMES)

    def _environment(self, mapper: int) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script execs the node, so that the node receives the signals
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "rabbitmq-env.conf"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_INETRC": str(self._folder / NAMES),
            "ERL_CRASH_DUMP": str(self._folder / "erl_crash.dump"),
            # no busy waiting in the schedulers, because it takes processor time from training
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }


def _epmd() -> str:
    """The path of the port mapper: on PATH, or in the installation of `erl`. Raises StackFailed."""
    if path := shutil.which("epmd"):
        return path
    erlang = Path(shutil.which("erl") or "").resolve().parent
    for candidate in erlang.parent.glob("erts-*/bin/epmd"):
        return str(candidate)
    raise StackFailed("epmd is missing, which is a part of Erlang: install Erlang, or set TREADLE_BUS_URL")
