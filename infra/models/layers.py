"""Finds the layers of a model: its base, and the adapters to merge into it, also if an adapter is given as the base.

An adapter names its base in `adapter_config.json`; this is followed until the base is a whole model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os.path import isdir  # unlike Path.is_dir, false for what can be no name
from pathlib import Path

from infra.child.program import Job
from infra.errors import BadConfiguration
from infra.models.folders import (
    ADAPTER_CONFIG,
    has_tokenizer,
    is_adapter,
    require_adapter_weights,
    require_safe,
)
from infra.models.hub import HubModel, fetch_adapter_weights, fetch_settings
from infra.models.hub_ids import is_hub_id
from infra.models.model_inputs import BASE, ModelLocation
from infra.models.plain_files import FIELD, read_json

MAX_DEPTH = 8
"""Largest number of adapters on top of each other that are followed to their base."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model, an adapter or a tokenizer: a folder, or a hub id with an optional revision."""

    name: str
    """As in `ModelSource`: `path:/folder`, `hub:org/name`, `hub:org/name@revision` or `artifact:models/…`."""
    folder: Path | None
    """The folder on this machine; None if the hub has it."""
    named_in: Path | None = None
    """The adapter's `adapter_config.json` that names it as the base."""
    snapshot: Path | None = None
    """If the hub has it: its folder in the cache, without weights until `fetch_weights`."""

    def __str__(self) -> str:
        """The source in error messages; it says how to correct the name of a base."""
        named = f", the base that base_model_name_or_path in {self.named_in} names" if self.named_in else ""
        return f"{self.folder or self.name}{named}"

    @property
    def files(self) -> Path:
        """The folder from which it is loaded, on this machine."""
        found = self.folder or self.snapshot
        assert found is not None  # find_layers fetches it
        return found

    @property
    def path_or_id(self) -> str:
        """The folder or the hub id, as an adapter names its base."""
        return str(self.folder or self.name.removeprefix("hub:").partition("@")[0])

    @property
    def revision(self) -> str | None:
        """The branch, tag or commit on the hub; None: the newest."""
        return None if self.folder else self.name.partition("@")[2] or None

    def on_hub(self, name: str, job: Job) -> HubModel:
        """The model that `job` fetches from the hub; `name` is its name in error messages."""
        return HubModel(self.path_or_id, self.revision, name, job)


@dataclass(frozen=True, slots=True)
class Layers:
    """A whole model, and the adapters to merge into it in this order; each of them has a folder."""

    base: Source
    adapters: tuple[Source, ...]

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the adapters."""
        return tuple(adapter.folder for adapter in self.adapters if adapter.folder)

    @property
    def tokenizer(self) -> Source:
        """Where the tokenizer is: in the last adapter that has one, else in the base."""
        own = (adapter for adapter in reversed(self.adapters) if adapter.folder and has_tokenizer(adapter.folder))
        return next(own, self.base)


def find_layers(location: ModelLocation, job: Job) -> Layers:
    """The layers of a model; of a base on the hub only its settings are downloaded, not yet its weights.

    Raises BadConfiguration, which names the folder, if it holds no model or if the base of an adapter is not found, and
    HubUnavailable.
    """
    base, followed = _fetched(_given(location, job), location, job), list[Source]()
    while (adapter := _as_adapter(base, location, job)) is not None:
        if len(followed) == MAX_DEPTH or any(adapter.folder == other.folder for other in followed):
            chain = " on ".join(layer.name for layer in (*followed, adapter))
            raise BadConfiguration(
                f"model {location}: expected at most {MAX_DEPTH} adapters, each on another base; found {chain}",
                field=FIELD,
            )
        followed.append(adapter)
        base = _fetched(_base_of(adapter, location), location, job)
    given = tuple(Source(name, job.input(name)) for name in location.adapters)
    for adapter in given:
        name = f"{location} with {adapter.name}"
        require_safe(job.input(adapter.name), name, own_code=False)
        require_adapter_weights(job.input(adapter.name), name)
    return Layers(base, (*reversed(followed), *given))


def _given(location: ModelLocation, job: Job) -> Source:
    match location.kind:
        case "hub":
            return Source(str(location), None)
        case "artifact":
            return Source(str(location), job.input(BASE))
        case "path":
            return _on_disk(Path(location.name).absolute())


def _on_disk(folder: Path, named_in: Path | None = None) -> Source:
    return Source(f"path:{folder}", folder, named_in)


def _fetched(source: Source, location: ModelLocation, job: Job) -> Source:
    """The source with its folder in the hub's cache, if the hub has it."""
    if source.folder:
        return source
    on_hub = source.on_hub(_described(source, location), job)
    return replace(source, snapshot=fetch_settings(on_hub, own_code=location.trust_remote_code))


def _as_adapter(source: Source, location: ModelLocation, job: Job) -> Source | None:
    """The adapter in this place with its folder, or None if there is a whole model."""
    name = _described(source, location)
    require_safe(source.files, name, own_code=location.trust_remote_code)
    if source.folder:
        return source if is_adapter(source.folder, name) else None
    if not (source.files / ADAPTER_CONFIG).is_file():
        return None
    fetch_adapter_weights(source.on_hub(name, job))
    require_adapter_weights(source.files, name)
    return Source(source.name, source.files)


def _described(source: Source, location: ModelLocation) -> str:
    """The name of the model in error messages, with the adapter that names this source as its base."""
    return f"{location}: {source}" if source.named_in else str(location)


def _base_of(adapter: Source, location: ModelLocation) -> Source:
    """The base that an adapter names: an absolute folder, a folder relative to the adapter's, or a hub id."""
    assert adapter.folder is not None
    file = adapter.folder / ADAPTER_CONFIG
    config = read_json(file, str(location))
    wanted = config.get("base_model_name_or_path")
    # Earlier versions of Treadle wrote the prefixes.
    name = wanted.removeprefix("path:").removeprefix("hub:") if isinstance(wanted, str) else ""
    folder, absolute = adapter.folder / name, Path(name).is_absolute()
    if name and isdir(folder) and (absolute or location.kind != "artifact"):  # an artifact's folder is temporary
        return _on_disk(folder if absolute else folder.resolve(), file)
    if is_hub_id(name):
        revision = config.get("revision") or "main"
        return Source(f"hub:{name}" + (f"@{revision}" if revision != "main" else ""), None, file)
    stored = "fetch the adapter and its base with treadle download, or " if name.startswith("artifact:") else ""
    raise BadConfiguration(
        f"model {location}: the adapter {adapter.name} names the base {wanted!r:.200}, which is no folder on this "
        f"machine and no hub id; {stored}write the base's folder or hub id to base_model_name_or_path in {file}",
        field=FIELD,
    )
