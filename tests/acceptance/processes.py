"""Starts and kills the services of Treadle, each as an operating-system process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.settings import Settings
from tests.eventually import eventually

TIMEOUT = 120.0


def environment(settings: Settings, **more: object) -> dict[str, str]:
    """The environment variables that give another process the values of `settings`."""
    values = settings.model_dump()
    plain_values = {name: getattr(value, "get_secret_value", lambda v=value: v)() for name, value in values.items()}
    variables = {f"TREADLE_{name.upper()}": _text(v) for name, v in {**plain_values, **more}.items() if v is not None}
    variables.pop("TREADLE_MODELS", None)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
    return {**inherited, **variables}


def _text(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


class Service:
    """One `treadle …` process, whose output goes to `{name}.log`."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str], folder: Path) -> None:
        self.name = name
        self._arguments = [str(Path(sys.executable).parent / "treadle"), *arguments]
        self._environ = environ
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._arguments, env=self._environ, stdout=log, stderr=log)

    def suspend_children(self) -> None:
        """Send SIGSTOP to the child processes."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children():
            child.suspend()

    def kill(self) -> None:
        """Send SIGKILL and wait until the process has ended."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Deployment:
    """Two control processes and one worker of each phase."""

    def __init__(self, settings: Settings, ports: tuple[int, int], folder: Path) -> None:
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.services: dict[str, Service] = {}
        for number, port in enumerate(ports, 1):
            environ = environment(settings, http_port=port)
            self.services[f"control-{number}"] = Service(f"control-{number}", ["control"], environ, folder)
        for kind in ("optimizer", "trainer", "evaluator"):
            environ = environment(settings, work_dir=settings.work_dir / kind)
            self.services[kind] = Service(kind, ["worker", kind], environ, folder)

    async def get(self, path: str) -> Any:
        """The JSON body at `path`, from the first control process that answers."""
        return await eventually(lambda: self._get(path), f"an answer to {path}", TIMEOUT)

    async def post(self, path: str, **options: Any) -> Any:
        """Post to the first control process that accepts a connection, and return the JSON body of the answer."""
        answer: httpx.Response = await eventually(lambda: self._post(path, **options), f"a connection for {path}")
        assert answer.is_success, answer.text
        return answer.json()

    async def _post(self, path: str, **options: Any) -> httpx.Response | None:
        for url in self.urls:
            try:
                async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                    return await client.post(path, **options)
            except httpx.ConnectError:
                continue
        return None

    async def _get(self, path: str) -> Any:
        for url in self.urls:
            try:
                async with httpx.AsyncClient(base_url=url, timeout=10) as client:
                    answer = await client.get(path)
            except httpx.TransportError:
                continue
            if answer.is_success:
                return answer.json()
        return None


@asynccontextmanager
async def running(settings: Settings, ports: tuple[int, int], folder: Path) -> AsyncIterator[Deployment]:
    """Start all five processes and wait until control is ready."""
    deployment = Deployment(settings, ports, folder)
    try:
        for service in deployment.services.values():
            service.start()
        await deployment.get("/readyz")
        yield deployment
    finally:
        for service in deployment.services.values():
            service.stop()
