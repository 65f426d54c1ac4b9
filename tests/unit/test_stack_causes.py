"""Why a server of the local stack did not start, by excerpts of logs.

Servers that were broken on purpose wrote most of them; those of a missing library, of /dev/shm, of the wrapper script
and of a wrong executable format are written by hand.
"""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest

from infra.stack.causes import CAUSES, MAX_WORDS, cause_in, cause_of, last_words, probe, unexplained_exit

LOGS = {
    "localhost": (
        '[error] <0.130.0>     {failed_to_start_child,\n[error] <0.130.0>   {epmd_error,"localhost",nxdomain}}},',
        "add `127.0.0.1 localhost` to /etc/hosts",
    ),
    "localhost, crash": (
        "Kernel pid terminated (application_controller) ({application_start_failure,rabbitmq_prelaunch,{{shutdown,"
        '{failed_to_start_child,prelaunch,{epmd_error,"localhost",nxdomain}}},{rabbit_prelaunch_app,start,[normal,[]]}}})\n'
        "\nCrash dump is being written to: erl_crash.dump...done",
        "add `127.0.0.1 localhost` to /etc/hosts",
    ),
    "library": (
        "/opt/bin/postgres: error while loading shared libraries: libicui18n.so.74: cannot open shared object "
        "file: No such file or directory",
        "the shared library libicui18n.so.74 is missing",
    ),
    "no execute permission": (
        "setpriv: failed to execute /opt/rclone: Permission denied",
        "/opt/rclone cannot be executed (Permission denied)",
    ),
    "wrong machine": (
        "setpriv: failed to execute /opt/rclone: Exec format error",
        "/opt/rclone cannot be executed (Exec format error)",
    ),
    "full disk, PostgreSQL": (
        'FATAL:  could not write to file "pg_wal/xlogtemp.12552": No space left on device\n'
        "child process exited with exit code 1\n"
        'initdb: removing contents of data directory "/t/s/postgres/data.unfinished"',
        "its disk is full: make room",
    ),
    "full disk, RabbitMQ": ('{cannot_write_pid_file,"/x/mnesia/treadle@localhost.pid",enospc}', "its disk is full"),
    "small shared memory": (
        'FATAL:  could not resize shared memory segment "/PostgreSQL.18" to 1048576 bytes: No space left on device',
        "shared memory (/dev/shm) is too small",
    ),
    "read-only": ("initdb: error: could not create directory: Read-only file system", "its disk is read-only"),
    "memory, PostgreSQL": (
        "FATAL:  could not map anonymous shared memory: Cannot allocate memory",
        "not enough free memory",
    ),
    "memory, Erlang": ("erts_mmap: Failed to create super carrier of size 1024 MB", "not enough free memory"),
    "memory, Erlang's heap": (
        'eheap_alloc: Cannot allocate 2545024 bytes of memory (of type "heap").',
        "not enough free memory",
    ),
    "memory, Go": ("fatal error: failed to reserve page summary memory\n\nruntime stack:", "not enough free memory"),
    "port, rclone": (
        "CRITICAL: Failed to s3: failed to init server: listen tcp 127.0.0.1:35111: bind: address already in use",
        "another program took its port: start again",
    ),
    "port, PostgreSQL": (
        'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use\n'
        "HINT:  Is another postmaster already running on port 40000?",
        "another program took its port: start again",
    ),
    "version": (
        "FATAL:  database files are incompatible with server\nDETAIL:  The data directory was initialized by "
        "PostgreSQL version 17, which is not compatible with this version 18.6.",
        "another version of PostgreSQL",
    ),
    "in use": ('FATAL:  lock file "postmaster.pid" already exists', "another PostgreSQL uses its data"),
    "owner": ('FATAL:  data directory "/x/data" has wrong ownership', "its data belong to another user"),
    "mode": ('FATAL:  data directory "/x/data" has invalid permissions', "its data belong to another user"),
    "no name": (
        "initdb: error: could not look up effective user ID 1001: user does not exist",
        "this user (id 1001) has no name",
    ),
    "files": ("FATAL:  insufficient file descriptors available to start server process", "raise it with ulimit"),
    "threads": ("erl_drv_thread_create: can't create thread: Resource temporarily unavailable", "raise it with ulimit"),
    "wrapper": ("Only root or rabbitmq should run rabbitmq-server", "runs only as root or rabbitmq"),
    "Erlang": ('{"init terminating in do_boot",{undef,[{rabbit,boot,[],[]}]}}', "install rabbitmq-server again"),
    "denied": ("{error,eacces}", "it may not use one of its files"),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_known_log_names_the_cause_and_what_to_do_in_one_line(name: str) -> None:
    log, expected = LOGS[name]
    cause = cause_in(f"starting\n{log}\nstopped\n")
    assert cause is not None
    assert expected in cause
    assert ": " in cause
    assert "\n" not in cause


def test_every_known_cause_is_tested() -> None:
    found = {cause_in(log) for log, _ in LOGS.values()}
    templates = {
        sentence.partition("{0}")[0] for _, sentence in CAUSES if not sentence.startswith(("{0}", "the path of"))
    }
    assert not [known for known in templates if not any(known in (cause or "") for cause in found)]


@pytest.mark.parametrize("log", ["", "Ready to start client connection handlers", "completed with 3 plugins."])
def test_a_log_without_a_known_line_names_no_cause(log: str) -> None:
    assert cause_in(log) is None


def test_the_last_words_are_the_last_error_and_no_dump() -> None:
    log = "start\nError: {something,new}\n\n\t\x1b[0m\nruntime/asm.s:373 +0x123\n" + "=" * 80
    assert last_words(log) == "Error: {something,new}"
    assert last_words("one\ntwo words\n--\n") == "two words"
    assert last_words("") == ""
    assert len(last_words("error " * 1000)) == MAX_WORDS


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EROFS, "read-only"),
        (errno.EADDRINUSE, "port"),
        (errno.ENAMETOOLONG, "too long"),
    ],
)
def test_an_error_of_the_system_names_what_to_do(number: int, expected: str) -> None:
    assert expected in cause_of(OSError(number, "text"))


def test_another_error_of_the_system_names_its_file() -> None:
    assert cause_of(PermissionError(errno.EACCES, "Permission denied", "/x")).startswith("/x: Permission denied")


def test_a_server_that_the_system_killed_ran_out_of_memory() -> None:
    assert "memory" in unexplained_exit(-signal.SIGKILL)
    assert "SIGSEGV" in unexplained_exit(-signal.SIGSEGV)
    assert unexplained_exit(3) == "it ended with status 3"


def test_a_disk_that_takes_files_is_no_cause(tmp_path: Path) -> None:
    assert probe(tmp_path) is None
    assert "No such file" in str(probe(tmp_path / "missing"))
