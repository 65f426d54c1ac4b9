"""A process that imports programs once and then forks a child process for each job: `python -m … FD MODULE…`.

Before the fork it runs no tensor operation and no other thread, because neither survives a fork. FD is the number of
its end of the socket to the worker; when the worker's end closes, it ends its child processes and itself.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from selectors import EVENT_READ, DefaultSelector

from infra.child import program
from infra.child.fork_server.messages import MAX_PACKET, Answer, Order
from infra.child.lifeline import set_death_signal

STREAMS = 3
"""Standard input, output and error."""
BLAS_THREADS = "OPENBLAS_NUM_THREADS"
IMPORT_VARIABLES = {BLAS_THREADS: "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""So that no import starts threads, nor initializes CUDA to count the devices."""


class Server:
    """Forks on request, ends the group of each child process that has ended, and reports its exit status."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._selector = DefaultSelector()
        self._selector.register(connection, EVENT_READ)
        self._running: dict[int, tuple[int, int]] = {}
        """The number of the order and the process id, by pidfd."""

    def serve(self) -> Order | None:
        """Serve until the worker closes the socket, then return None. In each child process, return its order."""
        self._send(Answer(0))
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._connection:
                    self._reap(key.fd)
                    continue
                order, streams = self._receive()
                if order is None:
                    self._end_all()
                    return None
                if len(streams) < STREAMS:  # this process has no descriptor left
                    self._send(Answer(order.number, errno=errno.EMFILE))
                    _close(streams)
                elif self._start(order, streams):
                    return order

    def _receive(self) -> tuple[Order | None, list[int]]:
        try:
            packet, streams, _, _ = socket.recv_fds(self._connection, MAX_PACKET, STREAMS)
        except ConnectionResetError:
            packet, streams = b"", []
        return (Order.decode(packet) if packet else None), streams

    def _start(self, order: Order, streams: list[int]) -> bool:
        """Fork; returns whether this is the child process, whose standard streams are then those of the order."""
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._send(Answer(order.number, errno=error.errno))
            _close(streams)
            return False
        if pid == 0:
            os.setsid()
            set_death_signal(signal.SIGKILL, parent)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._leave()
            _use_streams(streams)
            return True
        _close(streams)
        pidfd = os.pidfd_open(pid)
        self._running[pidfd] = order.number, pid
        self._selector.register(pidfd, EVENT_READ)
        self._send(Answer(order.number, pid=pid), pidfd)
        return False

    def _leave(self) -> None:
        """Close what belongs to the server, in the child process."""
        self._selector.close()
        _close(self._running)
        self._connection.close()

    def _reap(self, pidfd: int) -> None:
        """End the rest of the group while the id of its ended leader cannot be reused, and report the exit status."""
        number, pid = self._running.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _end_group(pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self._send(Answer(number, status=status))

    def _send(self, answer: Answer, *descriptors: int) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the next read finds the end of the worker
            socket.send_fds(self._connection, [answer.encode()], descriptors)

    def _end_all(self) -> None:
        for _, pid in self._running.values():
            _end_group(pid)


def _end_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _use_streams(streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    _close(stream for stream in streams if stream >= STREAMS)


def preload(modules: Iterable[str]) -> None:
    """Import the programs, without garbage collection; imports create no garbage."""
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()


@contextmanager
def _variables(temporary: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables during the block."""
    before = {name: os.environ.get(name) for name in temporary}
    os.environ.update(temporary)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def _run(order: Order) -> int:
    """Become the program of an order, in the child process."""
    os.environ["TMPDIR"] = order.temporary
    tempfile.tempdir = None  # an import may have looked for it already
    if _needs_a_new_process():
        command = [sys.executable, "-P", "-m", "infra.child.program", order.module]
        os.execv(sys.executable, command)  # noqa: S606  # it starts no shell either
    _use_all_blas_threads()
    return program.main([order.module])


def _needs_a_new_process() -> bool:
    """Whether an import has initialized CUDA, which cannot be used after a fork."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda._is_in_bad_fork()


def _use_all_blas_threads() -> None:
    """Undo the limit that was set for the imports."""
    with suppress(ImportError):
        threadpoolctl = importlib.import_module("threadpoolctl")
        given = next((os.environ[name] for name in (BLAS_THREADS, "OMP_NUM_THREADS") if name in os.environ), "")
        threads = int(given) if given.isdecimal() else len(os.sched_getaffinity(0))
        threadpoolctl.threadpool_limits(threads, user_api="blas")


def main(arguments: list[str]) -> int:
    """Serve; in each child process, run its program and return its exit status."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a shutdown sends it to all; the worker stops the programs first
    set_death_signal(signal.SIGKILL)  # while it cannot find the end of the worker at its socket
    with _variables(IMPORT_VARIABLES):
        preload(arguments[1:])
    set_death_signal(None)
    order = Server(socket.socket(fileno=int(arguments[0]))).serve()
    return 0 if order is None else _run(order)


if __name__ == "__main__":
    program.leave(main(sys.argv[1:]))
