"""What `treadle doctor` looks at. Every check answers; none raises, none changes anything."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

import httpx

from contracts.errors import TreadleError
from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings

TRAIN_EXTRA = ("torch", "transformers", "peft", "accelerate", "scikit-learn", "rouge-score")
PATIENCE = 5.0
"""Seconds that a part may take to answer."""


class State(StrEnum):
    """How a part is."""

    FINE = "fine"
    OPTIONAL = "optional"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One part: what was found, and what to do about it."""

    name: str
    state: State
    found: str
    mend: str = ""


def here() -> list[Check]:
    """What this machine has: Python, the packages of the programs, an accelerator, a broker to be started."""
    return [_python(), _train_extra(), _device(), _rabbitmq_server()]


async def parts(settings: Settings, url: str) -> list[Check]:
    """What the settings name: broker, database, object store, gateway."""
    return list(await asyncio.gather(_broker(settings), _database(settings), _objects(settings), _gateway(url)))


def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    state = State.FINE if sys.version_info >= (3, 11) else State.BROKEN
    return Check("Python", state, found, "install Python 3.11 or newer")


def _train_extra() -> Check:
    """The packages that the programs of the workers import; nothing is imported to find out."""
    found = {name: _version(name) for name in TRAIN_EXTRA}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        mend = 'pip install -c constraints.txt "treadle[train]" (or: make setup)'
        return Check("train extra", State.BROKEN, f"missing: {', '.join(missing)}", mend)
    return Check("train extra", State.FINE, ", ".join(f"{name} {found[name]}" for name in TRAIN_EXTRA[:3]))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device() -> Check:
    """Asked of the driver's own module, because importing torch takes seconds."""
    if sys.platform == "darwin":
        return Check("accelerator", State.FINE, "MPS, if torch finds it")
    if importlib.util.find_spec("torch") is None:
        return Check("accelerator", State.OPTIONAL, "unknown without torch")
    if "+cpu" in (_version("torch") or ""):
        return Check("accelerator", State.OPTIONAL, "none: this torch is a CPU build", "for a GPU: a CUDA build of torch")
    return Check("accelerator", State.OPTIONAL, "decided by torch when a program starts")
