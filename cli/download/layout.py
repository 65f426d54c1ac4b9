"""Where the files of a dataset or of an iteration go on disk. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.artifacts import is_safe_name
from contracts.errors import TreadleError
from contracts.files import ADAPTER_CONFIG, FileView, Folder


class Only(StrEnum):
    """A part of an iteration."""

    MODEL = "model"
    DATA = "data"
    REPORT = "report"


FOLDERS = {
    Only.MODEL: {Folder.MODEL.value, Folder.BASE.value, Folder.ADAPTERS.value},
    Only.DATA: {Folder.DATA.value},
    Only.REPORT: {Folder.REPORT.value},
}
"""The folders of each part in the gateway's list."""
ADAPTER = "adapter"
"""The local folder of an adapter that has no adapter below it."""


class UnsafeName(TreadleError):
    """The gateway listed a file whose name leads out of the folder."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the gateway lists a file {name!r}, which would be written outside of the folder")


@dataclass(frozen=True, slots=True)
class Planned:
    """A file to download; `name` is its name in the gateway's list, `path` is relative to the local folder."""

    name: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The files to download, and what the model is made of."""

    files: tuple[Planned, ...]
    adapters: tuple[str, ...] = ()
    """Local folders of the adapters, to be merged in this order; empty for a full model."""
    base: str | None = None
    """Local folder of the base below the adapters; None if there is none or it is not in the object store."""

    @property
    def size(self) -> int:
        """Total bytes."""
        return sum(file.size for file in self.files)

    @property
    def rewritten(self) -> str | None:
        """The configuration of the first adapter, which must name the downloaded base; None if there is none."""
        return f"{self.adapters[0]}/{ADAPTER_CONFIG}" if self.adapters and self.base else None


def layout_of(files: Sequence[FileView], only: Only | None = None) -> Layout:
    """The layout of a dataset, of an iteration, or of a part of one. Raises UnsafeName.

    A full model is in `model/`, one adapter in `adapter/` beside its `base/`, several adapters in `adapters/1` to
    `adapters/N`; all other files keep their names.
    """
    for file in files:
        if not is_safe_name(file.name):
            raise UnsafeName(file.name)
    wanted = [file for file in files if only is None or _top(file.name) in FOLDERS[only]]
    names = {file.name for file in wanted}
    if f"{Folder.MODEL}/{ADAPTER_CONFIG}" not in names:
        return Layout(tuple(_planned(file, file.name) for file in wanted))
    earlier = len({name.split("/")[1] for name in names if name.startswith(f"{Folder.ADAPTERS}/")})
    adapters = [f"{Folder.ADAPTERS}/{number}" for number in range(1, earlier + 2)] if earlier else [ADAPTER]
    return Layout(
        files=tuple(_planned(file, _renamed(file.name, adapters[-1])) for file in wanted),
        adapters=tuple(adapters),
        base=Folder.BASE.value if any(_top(name) == Folder.BASE for name in names) else None,
    )


def _renamed(name: str, newest_adapter: str) -> str:
    """The local path of a file: the newest layer of the model is an adapter."""
    top, _, rest = name.partition("/")
    return f"{newest_adapter}/{rest}" if top == Folder.MODEL else name


def _planned(file: FileView, path: str) -> Planned:
    return Planned(file.name, path, file.size, file.sha256)


def _top(name: str) -> str:
    return name.partition("/")[0]
