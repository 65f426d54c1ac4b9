"""Loads a causal language model and its tokenizer.

Only programs import this module, because it needs torch and transformers. Weights are read from safetensors, never from
pickles, and code from the hub runs only if the settings allow it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from infra.errors import BadConfiguration
from infra.models.adapters import merge, require_none
from infra.models.building import bounded_building
from infra.models.folders import has_tokenizer, model_tensors, require_safe
from infra.models.hub import fetch_weights
from infra.models.layers import Layers, Source, find_layers
from infra.models.library_errors import as_bad_configuration, in_one_line
from infra.models.model_inputs import BASE, ModelLocation
from infra.models.safetensors_header import Stored

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from infra.child.program import Job


def load(
    location: ModelLocation, job: Job, *, dtype: torch.dtype | None = None, layers: Layers | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with its adapters merged, in eval mode on `device()`, and its tokenizer.

    `dtype` None: float32 on a CPU, else as saved. `layers` are those of `location` if they were found before.
    Raises BadConfiguration, which names the model and the source, and HubUnavailable.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    target = device()
    layers = layers or find_layers(location, job)
    tokenizer = _from_pretrained(location, layers.tokenizer, AutoTokenizer.from_pretrained)
    with bounded_building(_base_tensors(layers.base, location, job).values(), str(location)):
        model, loading_info = _from_pretrained(
            location,
            layers.base,
            AutoModelForCausalLM.from_pretrained,
            use_safetensors=True,
            dtype=dtype or (torch.float32 if target.type == "cpu" else "auto"),
            output_loading_info=True,
        )
    # A tied head does not count as missing. transformers initializes missing tensors at random.
    require_none(
        loading_info["missing_keys"],
        f"model {location}: its *.safetensors lack {len(loading_info['missing_keys'])} of its tensors",
        expected="all tensors that its config.json describes",
    )
    for adapter, folder in zip(layers.adapters, layers.folders, strict=True):
        model = merge(model, folder, f"{location} with {adapter.name}")
    return model.to(target).eval(), tokenizer


def load_tokenizer(location: ModelLocation, job: Job) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, also if its weights are not there. Raises BadConfiguration as `load` does."""
    stored = [job.input(name) for name in reversed(location.adapters)]
    stored += [job.input(BASE)] if location.kind == "artifact" else []
    folder = next(filter(has_tokenizer, stored), None)
    if folder:
        require_safe(folder, str(location), own_code=location.trust_remote_code)
    source = Source(str(location), folder) if folder else find_layers(location, job).tokenizer
    tokenizer: PreTrainedTokenizerBase = _from_pretrained(location, source, AutoTokenizer.from_pretrained)
    return tokenizer


def _base_tensors(base: Source, location: ModelLocation, job: Job) -> dict[str, Stored]:
    """Fetch the weights if the hub has them, check all files, and return the stored tensors."""
    if base.folder is None:
        fetch_weights(base.on_hub(str(location), job), base.files)
    return model_tensors(base.files, str(location), own_code=location.trust_remote_code)


def device() -> torch.device:
    """TREADLE_DEVICE if it is set, else the first available of CUDA, MPS and CPU. Raises BadConfiguration."""
    name = os.environ.get("TREADLE_DEVICE")
    if not name:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator and accelerator.type in {"cuda", "mps"} else torch.device("cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadConfiguration(
            f"TREADLE_DEVICE is {name!r}, which torch cannot use here ({in_one_line(error)}); "
            "set it to cpu, cuda or mps, or leave it out",
            field="TREADLE_DEVICE",
        ) from error
    return torch.device(name)


def _from_pretrained(location: ModelLocation, source: Source, method: Any, **options: Any) -> Any:  # noqa: ANN401  # untyped
    """Call `method`, a `from_pretrained`; an error in the model becomes one sentence."""
    hub = location.kind == "hub" and source.folder is None  # the code of a folder never runs
    options |= {"trust_remote_code": hub and location.trust_remote_code, "local_files_only": source.folder is not None}
    with as_bad_configuration(f"model {location}: could not be loaded as a causal language model; tried {source}"):
        return method(str(source.files), **options)
