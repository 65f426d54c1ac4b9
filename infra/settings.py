"""All settings and their defaults, read from `TREADLE_*` environment variables once, at a composition root."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import ByteSize, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.tasks import Phase

IN_PROCESS = "in-process"
HOST_NAME = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")


class Settings(BaseSettings):
    """Addresses of the services, limits and timeouts. Times are in seconds. An empty variable counts as missing."""

    model_config = SettingsConfigDict(env_prefix="TREADLE_", env_ignore_empty=True, frozen=True, extra="forbid")

    bus_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    """An `amqp://` or `amqps://` address, or `in-process`."""
    database_url: SecretStr = SecretStr("postgresql://treadle:treadle@127.0.0.1:5432/treadle")
    s3_endpoint: str = "http://127.0.0.1:9000"
    s3_access_key: SecretStr = SecretStr("treadle")
    s3_secret_key: SecretStr = SecretStr("treadle-secret")
    s3_bucket: str = Field(default="treadle", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    s3_region: str = "us-east-1"

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)
    http_open: bool = False
    """Serve on an address that other machines can reach, although the gateway has no accounts."""
    http_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Further names as which the gateway answers, with commas: `treadle.example,10.0.0.7`."""

    worker_id: str | None = Field(default=None, min_length=1, max_length=200)
    """None: made from the host name, the role and the process id."""
    worker_slots: int = Field(default=1, ge=1, le=1024)
    work_dir: Path = Path(tempfile.gettempdir()) / f"treadle-{os.getuid()}"
    """Folder of jobs, and of the spool of events that the broker has not confirmed yet."""
    fork_programs: bool = True
    """Start programs by forking a process that has imported them already; false: by exec, with their own imports."""
    stop_grace: float = Field(default=15.0, gt=0)
    """Time from SIGTERM to SIGKILL for a program that is stopped."""
    min_free_disk: ByteSize | None = Field(default=None, ge=0)
    """Free bytes on the disk of the work folder below which a worker takes no commands, such as `5GiB`.
    None: 1 GiB, or a twentieth of the disk if that is less."""

    short_ttl: float = Field(default=15.0, gt=0)
    """Length of the lease on an optimize or evaluate attempt."""
    train_ttl: float = Field(default=45.0, gt=0)
    reaper_tick: float = Field(default=1.0, gt=0)
    sweep_after: float = Field(default=10.0, gt=0)
    """Age after which the sweep checks an unclaimed command, and publishes it again if it was lost."""
    retention_after: float = Field(default=0.0, ge=0)
    """Days after which control deletes artifacts that nothing refers to; 0: never."""

    batch_size: int = Field(default=256, ge=1)
    """Largest number of events that are decided in one transaction."""
    models: dict[str, str] = Field(default_factory=dict)
    """Names for base models, as JSON: `{"qwen-7b": "/models/qwen2.5-7b"}`."""
    allow_remote_code: bool = False
    """Let models from the hub run their own code in this process's programs; each worker has its own setting."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_json: bool = False
    otlp_endpoint: str | None = None
    """An OTLP/HTTP collector, e.g. `http://127.0.0.1:4318`; None: no traces leave the process."""

    bus_accounts: bool = False
    """Each client of the broker has its own account: refuse a submission that does not name it as its `user_id`."""
    bus_admin_url: SecretStr | None = None
    """RabbitMQ's management API with an administrator, for `treadle topology users`: `http://user:password@host:15672`."""
    health_file: Path | None = None
    """The file that a worker touches while it is healthy; None: `healthy` in the worker's folder."""

    @field_validator("work_dir", "health_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        """Made absolute, because programs change their working directory."""
        return path and path.expanduser().absolute()

    @field_validator("http_allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, hosts: object) -> object:
        """Names between commas; each may have a port."""
        if not isinstance(hosts, str):
            return hosts
        names = tuple(name for part in hosts.split(",") if (name := part.strip()))
        wrong = [name for name in names if not HOST_NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"expected names or addresses with commas between them, got {wrong[0]!r}")
        return names

    @field_validator("bus_url")
    @classmethod
    def _check_bus_url(cls, url: SecretStr) -> SecretStr:
        if url.get_secret_value() != IN_PROCESS:
            _check_address(url, ("amqp", "amqps"), f"amqp://…, amqps://… or {IN_PROCESS}")
        return url

    @field_validator("bus_admin_url")
    @classmethod
    def _check_bus_admin_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            _check_address(url, ("http", "https"), "http://user:password@host:15672 of RabbitMQ's management API")
        return url

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr) -> SecretStr:
        _check_address(url, ("postgresql", "postgres"), "postgresql://user:password@host:port/database")
        return url

    def ttl(self, phase: Phase) -> float:
        """Seconds for which a lease on an attempt of this phase lasts without a heartbeat."""
        return self.train_ttl if phase is Phase.TRAIN else self.short_ttl

    def identity(self, role: str, pid: int) -> str:
        """The unique name of this process."""
        return self.worker_id or f"{socket.gethostname()}-{role}-{pid}"


def _check_address(address: SecretStr, schemes: tuple[str, ...], expected: str) -> None:
    """Raise ValueError for an address that cannot work. The text does not show it, because it contains a password."""
    parts = urlsplit(address.get_secret_value())
    try:
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        usable = False
    if not usable:
        raise ValueError(f"expected {expected}")
