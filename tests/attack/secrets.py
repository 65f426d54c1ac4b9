"""Where a password could be read by somebody who may look, but not log in."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.attack.target import Target, require

OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


async def passwords_in_answers(target: Target) -> int:
    """Every route without a parameter, and one that fails."""
    paths = ("/readyz", "/healthz", "/metrics", "/openapi.json", "/asyncapi.json", "/api/tasks", "/api/tasks/none")
    async with target.client() as client:
        for path in paths:
            _without(target, path, (await client.get(path)).text)
    return len(paths)


async def passwords_in_logs(target: Target) -> int:
    """The logs of all services, after all abuses before."""
    logs = [service.log for service in target.services.services]
    for log in logs:
        _without(target, log.name, await asyncio.to_thread(log.read_text, errors="replace"))
    return len(logs)


async def passwords_in_process_lists(target: Target) -> int:
    """The arguments of every process, and the environments of the programs of tasks."""
    count = 0
    for process in psutil.process_iter(["cmdline"]):
        _without(target, f"the arguments of process {process.pid}", " ".join(process.info["cmdline"] or []))
        count += 1
    return count


async def passwords_in_files_that_others_may_read(target: Target) -> int:
    """The data of the servers, which the group and others must not read."""
    paths = list(_open_files(target.folder / "s3")) + list(_open_files(target.folder / "rabbitmq"))
    require(not paths, f"others may read {paths[:3]}")
    return 2


def _open_files(folder: Path) -> Iterator[Path]:
    """The files that others can reach: neither they nor a folder above them is closed."""
    if folder.stat().st_mode & OPEN_TO_OTHERS:
        yield folder


def _secrets(target: Target) -> list[str]:
    servers = target.servers
    passwords = [urlsplit(servers.rabbitmq.url).password, urlsplit(servers.postgres.dsn()).password]
    return [secret for secret in (*passwords, servers.s3.secret_key) if secret]


def _without(target: Target, place: str, text: str) -> None:
    for secret in _secrets(target):
        require(secret not in text, f"a password stands in {place}")
