"""A local part that cannot start says why in one sentence; with `auto` the stack goes on without RabbitMQ."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import IN_PROCESS
from infra.stack import local, postgres, rabbitmq, s3
from infra.stack.errors import StackFailed
from infra.stack.local import LocalStack
from infra.stack.rabbitmq import RabbitMQNode
from infra.stack.s3 import S3Node
from tests.servers import missing

DUMP = 'Kernel pid terminated (application_controller) ({shutdown,{prelaunch,{epmd_error,"localhost",nxdomain}}})'
SCRIPTS = {
    "erl": "exit 0",
    "epmd": f"""exec {sys.executable} -c '
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[2])))
while True: server.accept()' "$@" """,
    "rabbitmq-server": f"""echo 'BOOT FAILED'; echo '{DUMP}'; echo '{{"init terminating in do_boot",{{}}}}'
echo 'Crash dump is being written to: erl_crash.dump...done'
echo core > core; mkdir elsewhere; cd elsewhere; echo dump > "${{ERL_CRASH_DUMP:-erl_crash.dump}}"; exit 1""",
}
NAMESPACE = """
set -e
for name in hosts nsswitch.conf resolv.conf; do mount --bind "$1/$name" "/etc/$name"; done
shift; exec "$@"
"""
TRY = """
import asyncio, sys
from pathlib import Path
from contracts.errors import TreadleError
from infra.stack.local import LocalStack

async def main():
    try:
        async with LocalStack(Path(sys.argv[1]), sys.argv[2]) as stack:
            print(stack.describe()["broker"], stack.notice)
    except TreadleError as error:
        print(error)

asyncio.run(main())
"""

TRY_RABBITMQ = """
import asyncio, sys
from pathlib import Path
from infra.stack.rabbitmq import RabbitMQNode

async def main():
    node = RabbitMQNode(Path(sys.argv[1]))
    try:
        await node.start()
        print(await node.control("eval", "node()."))
    finally:
        await node.stop()

asyncio.run(main())
"""


@pytest.fixture
def broken_rabbitmq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A RabbitMQ on PATH that ends in a dump; the current folder is empty."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name, text in SCRIPTS.items():
        (scripts / name).write_text(f"#!/bin/sh\n{text}\n")
        (scripts / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{scripts}:{os.environ['PATH']}")
    monkeypatch.setattr(rabbitmq, "RAW_SCRIPTS", tmp_path / "none")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "stack"


class Idle:
    """In place of a server that the test does not need."""

    def __init__(self, *_: object) -> None:
        """Start nothing."""

    async def start(self) -> None:
        """Start nothing."""

    async def stop(self) -> None:
        """Stop nothing."""


@pytest.fixture
def only_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave database and object store out of the stack."""
    monkeypatch.setattr(local, "PostgresNode", Idle)
    monkeypatch.setattr(local, "S3Node", Idle)


async def test_with_auto_the_stack_goes_on_in_process_and_says_why(broken_rabbitmq: Path) -> None:
    async with LocalStack(broken_rabbitmq, "auto") as stack:
        notice, broker = str(stack.notice), stack.describe()["broker"]
        assert stack.settings().bus_url.get_secret_value() == IN_PROCESS
        assert stack.accounts() == {}
    assert broker == IN_PROCESS
    assert notice == (
        "RabbitMQ did not start: the name localhost does not resolve on this machine: add `127.0.0.1 localhost` to "
        f"/etc/hosts (log: {broken_rabbitmq}/rabbitmq/server.log); going on with the in-process bus"
    )
    assert "BOOT FAILED" in (broken_rabbitmq / "rabbitmq" / "server.log").read_text()


async def test_what_a_server_dumps_stays_in_the_folder_of_the_stack(broken_rabbitmq: Path) -> None:
    with pytest.raises(StackFailed):
        await _start_and_stop(RabbitMQNode(broken_rabbitmq))
    assert _names(Path.cwd()) == set()
    assert {"core", "erl_crash.dump"} <= _names(broken_rabbitmq)


@pytest.mark.usefixtures("only_the_broker")
async def test_a_broker_that_was_asked_for_is_not_replaced(broken_rabbitmq: Path) -> None:
    with pytest.raises(StackFailed, match=r"^RabbitMQ did not start: the name localhost .*server\.log\)$"):
        async with LocalStack(broken_rabbitmq, "rabbitmq"):
            pass


@pytest.mark.usefixtures("only_the_broker")
async def test_queues_of_an_earlier_start_that_wait_are_named(broken_rabbitmq: Path) -> None:
    (broken_rabbitmq / "rabbitmq" / "mnesia" / rabbitmq.NODE).mkdir(parents=True)
    async with LocalStack(broken_rabbitmq, "auto") as stack:
        assert str(stack.notice).endswith("submissions and dead letters in its queues wait until it starts again")


async def test_the_cause_of_an_earlier_start_is_not_blamed(broken_rabbitmq: Path) -> None:
    with pytest.raises(StackFailed, match="localhost"):
        await _start_and_stop(RabbitMQNode(broken_rabbitmq))
    _replace_server("echo 'Error: the moon is full'; exit 7")
    with pytest.raises(StackFailed, match="it ended with status 7; it wrote: Error: the moon is full"):
        await _start_and_stop(RabbitMQNode(broken_rabbitmq))


async def test_a_server_that_never_answers_is_given_up(broken_rabbitmq: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq, "BOOT_TIMEOUT", 0.2)
    _replace_server("exec sleep 60")
    with pytest.raises(StackFailed, match="it was not ready after 0 s"):
        await _start_and_stop(RabbitMQNode(broken_rabbitmq))


async def test_a_program_that_cannot_be_executed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rclone").write_text("no program")
    monkeypatch.setattr(s3, "_rclone", lambda: str(tmp_path / "rclone"))
    with pytest.raises(StackFailed, match=r"rclone cannot be executed .*Permission denied"):
        await _start_and_stop(S3Node(tmp_path / "s3"))


async def test_a_port_that_another_program_took_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(s3, "free_port", lambda: taken.getsockname()[1])
        with pytest.raises(StackFailed, match="another program took its port: start again"):
            await _start_and_stop(S3Node(tmp_path / "s3"))


async def test_data_of_another_version_are_named(tmp_path: Path) -> None:
    node = postgres.PostgresNode(tmp_path / "postgres")
    await _start_and_stop(node)
    (tmp_path / "postgres" / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(StackFailed, match=r"PostgreSQL did not start: its data were written by another version"):
        await _start_and_stop(node)
    (tmp_path / "postgres" / "data").chmod(0o777)
    with pytest.raises(StackFailed, match=r"its data belong to another user or are open to others"):
        await _start_and_stop(node)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
@pytest.mark.parametrize("useradd", [None, "echo 'useradd: cannot lock /etc/passwd; try again later.' >&2; exit 1"])
def test_a_user_that_cannot_be_created_is_named(
    useradd: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if useradd:
        (tmp_path / "useradd").write_text(f"#!/bin/sh\n{useradd}\n")
        (tmp_path / "useradd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "SYSTEM_USER", "treadle-none")
    with pytest.raises(StackFailed, match=r"^PostgreSQL did not start: .*useradd"):
        postgres.PostgresNode(tmp_path / "postgres")


def test_a_folder_whose_name_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackFailed, match="the path of its folder is too long"):
        LocalStack(tmp_path / ("x" * 300), "in-process")


async def test_a_path_that_postgresql_would_cut_is_refused(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["x" * 200] * 5)
    with pytest.raises(StackFailed, match="the path of its folder is too long"):
        await _start_and_stop(postgres.PostgresNode(folder))


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    mounted = f'mount -t tmpfs -o size=2m tmpfs {tmp_path}; exec "$@"'
    said = _in_namespace(mounted, sys.executable, "-c", TRY, str(tmp_path / "stack"), "in-process")
    assert said.startswith("PostgreSQL did not start: its disk is full: make room")
    assert said.count("\n") == 1


def test_a_disk_that_is_read_only_is_named(tmp_path: Path) -> None:
    mounted = f'mount -t tmpfs tmpfs {tmp_path}; mount -o remount,ro {tmp_path}; exec "$@"'
    said = _in_namespace(mounted, sys.executable, "-c", TRY, str(tmp_path / "stack"), "in-process")
    assert said == "the local stack did not start: its disk is read-only: choose another --folder\n"


def test_rabbitmq_starts_on_a_machine_whose_localhost_does_not_resolve(tmp_path: Path) -> None:
    if rabbitmq.rabbitmq_script("rabbitmq-server") is None:
        missing("rabbitmq-server is not installed")
    for name, text in {"hosts": "127.0.0.1 other\n", "nsswitch.conf": "hosts: files\n", "resolv.conf": ""}.items():
        (tmp_path / name).write_text(text)
    said = _in_namespace(NAMESPACE, str(tmp_path), sys.executable, "-c", TRY_RABBITMQ, str(tmp_path / "rabbitmq"))
    assert said.strip() == f"{rabbitmq.NODE}"


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def _replace_server(script: str) -> None:
    Path(str(shutil.which("rabbitmq-server"))).write_text(f"#!/bin/sh\n{script}\n")


def _in_namespace(script: str, *command: str) -> str:
    """What a command prints after `script` changed the mounts that it sees; skips the test if that is forbidden."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount")
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def _start_and_stop(node: RabbitMQNode | S3Node | postgres.PostgresNode) -> None:
    try:
        await node.start()
    finally:
        await node.stop()
