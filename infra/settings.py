"""Every setting, with its default, read from `TREADLE_*` variables. Made once, at a composition root."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.tasks import Phase

IN_PROCESS = "in-process"


class Settings(BaseSettings):
    """Where the parts are, and how patient Treadle is with them. Times are seconds."""

    model_config = SettingsConfigDict(env_prefix="TREADLE_", frozen=True, extra="forbid")

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

    worker_id: str | None = None
    """None: made of the host's name and the phase, with the process id."""
    worker_slots: int = Field(default=1, ge=1, le=1024)
    work_dir: Path = Path(tempfile.gettempdir()) / f"treadle-{os.getuid()}"
    """Job folders and the spool of events that the broker has not confirmed yet."""
    warm_children: bool = True
    """Keep one child with its imports done waiting for the next job."""
    stop_grace: float = Field(default=15.0, gt=0)
    """From SIGTERM to SIGKILL of a program that was told to stop."""

    short_ttl: float = Field(default=15.0, gt=0)
    """Lease of optimize and evaluate attempts."""
    train_ttl: float = Field(default=45.0, gt=0)
    reaper_tick: float = Field(default=1.0, gt=0)
    sweep_after: float = Field(default=10.0, gt=0)
    """Age from which an unclaimed command is looked for, and published again if it was lost."""
    retention_after: float = Field(default=0.0, ge=0)
    """Days after which control deletes what nothing refers to any more; 0: never."""

    batch_size: int = Field(default=256, ge=1)
    """Most events decided in one transaction."""
    models: dict[str, str] = Field(default_factory=dict)
    """Names for base models, as JSON: `{"qwen-7b": "/models/qwen2.5-7b"}`."""
    allow_remote_code: bool = False
    """Let models from the hub run code of their own."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_json: bool = False
    otlp_endpoint: str | None = None
    """An OTLP/HTTP collector, e.g. `http://127.0.0.1:4318`; None: no traces leave the process."""

    @field_validator("work_dir")
    @classmethod
    def _work_dir_is_absolute(cls, given: Path) -> Path:
        """Programs change their working directory."""
        return given.expanduser().absolute()

    @field_validator("bus_url")
    @classmethod
    def _bus_is_known(cls, given: SecretStr) -> SecretStr:
        if given.get_secret_value() != IN_PROCESS:
            _check_address(given, ("amqp", "amqps"), f"amqp://…, amqps://… or {IN_PROCESS}")
        return given

    @field_validator("database_url")
    @classmethod
    def _database_is_known(cls, given: SecretStr) -> SecretStr:
        _check_address(given, ("postgresql", "postgres"), "postgresql://user:password@host:port/database")
        return given

    def ttl(self, phase: Phase) -> float:
        """How long a lease of this phase lasts without a heartbeat."""
        return self.train_ttl if phase is Phase.TRAIN else self.short_ttl

    def identity(self, role: str, pid: int) -> str:
        """This process's name among its peers."""
        return self.worker_id or f"{socket.gethostname()}-{role}-{pid}"


def _check_address(given: SecretStr, schemes: tuple[str, ...], expected: str) -> None:
    """Refuse an address that could never be reached; the text does not show it, for it holds a password."""
    parts = urlsplit(given.get_secret_value())
    try:
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        usable = False
    if not usable:
        raise ValueError(f"expected {expected}")
