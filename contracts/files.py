"""The files of datasets and iterations, as HTTP responses; the sealed test split is not among them."""

from __future__ import annotations

from enum import StrEnum

from contracts.http import View

SEALED = "splits/test.jsonl"
"""Name of the rows of the sealed test split in an optimizer's artifact."""
ADAPTER_CONFIG = "adapter_config.json"
"""The file by which peft recognizes an adapter."""


class Folder(StrEnum):
    """The folders in which the files of an iteration are listed: one for each artifact."""

    DATA = "data"
    """The optimizer's output: rows, ledger, quarantine, report and, in iteration 1, `splits/`."""
    MODEL = "model"
    """The trained model, or the adapter that this iteration trained."""
    BASE = "base"
    """The model below the adapters, if it is in the object store."""
    ADAPTERS = "adapters"
    """In `adapters/1`, `adapters/2`, …: the adapters below `model`, to be merged in this order."""
    REPORT = "report"
    """The evaluation."""


class FileView(View):
    """One file; `size` is in bytes, `sha256` in hex."""

    name: str
    size: int
    sha256: str


class FilesView(View):
    """The files of a dataset or of an iteration."""

    files: tuple[FileView, ...]
    removed: tuple[str, ...] = ()
    """Folders whose files were deleted, for example by `treadle retention`."""
