"""Fetches a model from the hub into its cache, so that it is checked and loaded like any folder.

A hub id is never given to `from_pretrained`, which would prefer a local folder of that name and choose files itself.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

from infra.child.program import Job, Stopped
from infra.errors import HubUnavailable, PhaseError
from infra.models import hub_client
from infra.models.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from infra.models.hub_errors import hub_failure, offline
from infra.models.hub_ids import HUB_RULE, is_hub_id, is_revision
from infra.models.library_errors import as_bad_configuration
from infra.models.plain_files import bad
from infra.models.weights import INDEX, WEIGHTS, indexed_names

SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.spm", "*.codes", "*.vocab"]
"""Files of a model that are neither weights nor code."""
CODE = ["*.py"]
IN_FOLDERS = ["*/*.json", "*/*.model", "*/*.txt"]
"""Files that other formats of a model need, for example `onnx/`."""
CONFIG = "config.json"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the hub, and the job that needs it."""

    hub_id: str
    revision: str | None
    """The branch, tag or commit; None: the newest."""
    name: str
    """The name of the model in error messages."""
    job: Job


def fetch_settings(model: HubModel, *, own_code: bool) -> Path:
    """Fetch everything but weights and return the folder in the cache; code is fetched only if `own_code`.

    Raises BadConfiguration, also if the id is none, and HubUnavailable, as the other functions do.
    """
    if not is_hub_id(model.hub_id) or not is_revision(model.revision or "main"):
        named = f"{model.hub_id!r:.200} at {model.revision or 'main'!r:.200}"
        raise bad(model.name, f"{named} is no hub id", f"expected {HUB_RULE}")

    def complete(folder: Path) -> bool:
        return (folder / CONFIG).is_file() or (folder / ADAPTER_CONFIG).is_file()

    return _snapshot(model, [*SMALL_FILES, *(CODE if own_code else [])], complete)


def fetch_adapter_weights(model: HubModel) -> None:
    """Fetch the weights of an adapter whose settings are in the cache."""
    _fetch(model, [ADAPTER_CONFIG, ADAPTER_WEIGHTS])


def fetch_weights(model: HubModel, folder: Path) -> None:
    """Fetch the weights of a whole model whose settings are in `folder`: one file, or those of its checked index."""
    names: Iterable[str] = {WEIGHTS}
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        names = indexed_names(folder / INDEX, model.name)
    _fetch(model, names)


def _fetch(model: HubModel, names: Iterable[str]) -> None:
    names = tuple(names)
    _snapshot(model, [glob.escape(name) for name in names], lambda folder: all((folder / n).is_file() for n in names))


def _snapshot(model: HubModel, patterns: list[str], complete: Callable[[Path], bool]) -> Path:
    """Download the files, or take those of the cache if the hub is away and they are `complete`."""
    options: dict[str, Any] = {"revision": model.revision, "allow_patterns": patterns, "ignore_patterns": IN_FOLDERS}
    with as_bad_configuration(f"model {model.name}: {model.hub_id} could not be loaded from the hub"):
        cached, known_complete = _cached(model, options)
        if constants.is_offline_mode():
            if cached is None:
                raise offline(model.name)
            return cached  # what the model needs of it is checked later
        spare = cached if cached is not None and known_complete and complete(cached) else None
        hub_client.use_patient_client(model.job, 0.0 if spare else hub_client.PATIENCE)
        try:
            return Path(snapshot_download(model.hub_id, **options))
        except (PhaseError, Stopped):
            raise
        except Exception as error:  # the library, those below it and a hub's odd answers raise many types
            failure = hub_failure(error, model.name, model.hub_id, model.revision)
            if isinstance(failure, HubUnavailable) and spare:
                log.warning("hub_away", reason=str(failure), used=str(spare))
                return spare
            if failure is None:
                raise
            raise failure from error


def _cached(model: HubModel, options: dict[str, Any]) -> tuple[Path | None, bool]:
    """The folder in the cache, if there is one, and whether the cache does not know of files that it lacks."""
    try:
        return Path(snapshot_download(model.hub_id, local_files_only=True, **options)), True
    except IncompleteSnapshotError as error:
        return Path(error.snapshot_path), False
    except LocalEntryNotFoundError:
        return None, False
