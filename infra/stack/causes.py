"""Why a server did not start and what to do: from its log, from the error of the system, or from its disk."""

from __future__ import annotations

import errno
import re
import shutil
import signal
import tempfile
from pathlib import Path

LEAST_FREE_BYTES = 1024 * 1024
"""A disk with less free space counts as full."""
MAX_WORDS = 200
"""Largest length of a line of a log that is quoted."""
FULL = "its disk is full: make room, or choose another --folder"
READ_ONLY = "its disk is read-only: choose another --folder"
NO_MEMORY = "the machine has not enough free memory for it: stop other programs, or raise the limit of memory"
NOT_ALLOWED = "it may not use one of its files: choose another --folder, or give its files to this user"
TOO_LONG = "the path of its folder is too long: choose another --folder"
PORT_TAKEN = "another program took its port: start again"
LIMITS = "a limit of the system on processes or open files is reached: raise it with ulimit, or stop other programs"

CAUSES: tuple[tuple[str, str], ...] = (
    (
        r'epmd_error,\s*"?localhost"?,\s*nxdomain|unable to (?:resolve|connect to epmd).*nxdomain',
        "the name localhost does not resolve on this machine: add `127.0.0.1 localhost` to /etc/hosts",
    ),
    (
        r"error while loading shared libraries: ([^\s:]+)",
        "the shared library {0} is missing: install the package that contains it",
    ),
    (
        r"(?:failed to execute|cannot execute|exec:) ?(\S+?): (Permission denied|No such file or directory|"
        r"Exec format error|not found)",
        "{0} cannot be executed ({1}): install it again",
    ),
    (
        r"could not (?:open|resize|map|create) (?:anonymous )?shared memory segment[^\n]*No space left",
        "shared memory (/dev/shm) is too small: give it more room, in Docker with --shm-size=1g",
    ),
    (r"(?i)no space left on device|\benospc\b|disk quota exceeded|\bedquot\b", FULL),
    (r"(?i)read-only file system|\berofs\b", READ_ONLY),
    (
        r"(?i)cannot allocate memory|could not map anonymous shared memory|Cannot (?:re)?allocate \d+ bytes"
        r"|failed to create super carrier|failed to (?:allocate|reserve)|out of memory|\benomem\b",
        NO_MEMORY,
    ),
    (r"(?i)address already in use|\beaddrinuse\b", PORT_TAKEN),
    (
        r"database files are incompatible with server|initialized by PostgreSQL version (\d+)",
        "its data were written by another version of PostgreSQL: choose another --folder, or install that one again",
    ),
    (
        r'lock file "postmaster\.pid" already exists',
        "another PostgreSQL uses its data: stop it, or choose another --folder",
    ),
    (
        r"has wrong ownership|has invalid permissions|has group or world access",
        "its data belong to another user or are open to others: choose another --folder, or correct the permissions",
    ),
    (
        r"could not look up effective user ID (\d+)",
        "this user (id {0}) has no name: add a line for it to /etc/passwd, or run as another user",
    ),
    (
        r"Only root or rabbitmq (?:should|can) run",
        "the system's script runs only as root or rabbitmq: install RabbitMQ without that script, or run as root",
    ),
    (
        r"(?i)too many open files|insufficient file descriptors|resource temporarily unavailable|can't create thread"
        r"|\bemfile\b|\benfile\b",
        LIMITS,
    ),
    (r"(?i)permission denied|operation not permitted|\beacces\b|\beperm\b", NOT_ALLOWED),
    (r"(?i)file name too long|\benametoolong\b", TOO_LONG),
    (
        r"init terminating in do_boot|cannot get bootfile|(?:could not|cannot) start kernel pid",
        "Erlang could not start it, perhaps because its installation is incomplete: install rabbitmq-server again",
    ),
)
"""Patterns of logs, the most telling first, and what is wrong and what to do; {0} is the pattern's first group."""

ERRORS: dict[int, str] = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: READ_ONLY,
    errno.ENOMEM: NO_MEMORY,
    errno.EADDRINUSE: "no port of the loopback interface is free: stop other programs",
    errno.EMFILE: LIMITS,
    errno.ENFILE: LIMITS,
    errno.EAGAIN: LIMITS,
    errno.ENAMETOOLONG: TOO_LONG,
}


def cause_in(log: str) -> str | None:
    """What is wrong and what to do, by the text that a server wrote; None if no line of it is known."""
    for pattern, sentence in CAUSES:
        if match := re.search(pattern, log):
            return sentence.format(*match.groups())
    return None


def cause_of(error: OSError) -> str:
    """What is wrong and what to do, by the error of the system."""
    if error.errno in ERRORS:
        return ERRORS[error.errno]
    why = error.strerror or str(error)
    return f"{error.filename}: {why}; choose another --folder, or correct it" if error.filename else why


def probe(folder: Path) -> str | None:
    """What is wrong with the disk of a server's folder; None if a file can be written there."""
    try:
        if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
            return FULL
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        return cause_of(error)
    return None


def unexplained_exit(status: int) -> str:
    """How a server ended, for a cause that is not known."""
    if status == -signal.SIGKILL:
        return "it was killed, most likely because memory ran out: stop other programs"
    if status < 0:
        return (
            f"it crashed ({signal.Signals(-status).name}): check the limits of memory (ulimit -a), or install it again"
        )
    return f"it ended with status {status}"


def last_words(log: str) -> str:
    """The last line of a log that names an error, else the last one with a word, cut at its maximum length."""
    lines = [" ".join(line.split()) for line in reversed(log.splitlines())]
    for telling in (r"(?i)\b(?:fatal|error|failed|cannot|could not)\b", r"[A-Za-z]{3}"):
        if found := next((line for line in lines if re.search(telling, line)), None):
            return found[:MAX_WORDS]
    return ""
