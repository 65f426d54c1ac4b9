"""Loads a causal language model and its tokenizer.

Only programs import this module, because it needs torch and transformers. Weights are read from safetensors, never from
pickles, and code from the hub runs only if the settings allow it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from infra.errors import BadConfiguration
from infra.models.model_inputs import BASE, ModelLocation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from infra.child.program import Job

FIELD = "model"
MAX_REASON_LENGTH = 400
MAX_NAMED_TENSORS = 5
"""Largest number of missing tensors that an error names."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load(
    location: ModelLocation, job: Job, *, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model with its adapters merged, in eval mode on `device()`, and its tokenizer.

    `dtype` None: float32 on a CPU, else as saved. Raises BadConfiguration, which names the model and the source.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    target = device()
    source = _source(location, job)
    options = {"trust_remote_code": location.trust_remote_code, "local_files_only": location.kind != "hub"}
    tokenizer = _from_pretrained(location, source, AutoTokenizer.from_pretrained, **options)
    model, loading_info = _from_pretrained(
        location,
        source,
        AutoModelForCausalLM.from_pretrained,
        use_safetensors=True,
        dtype=dtype or (torch.float32 if target.type == "cpu" else "auto"),
        output_loading_info=True,
        **options,
    )
    _require_all_weights(loading_info["missing_keys"], location)
    for name in location.adapters:
        model = _merge(model, job.input(name), f"{location} with {name}")
    return model.to(target).eval(), tokenizer


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
            f"TREADLE_DEVICE is {name!r}, which torch cannot use here ({_in_one_line(error)}); "
            "set it to cpu, cuda or mps, or leave it out",
            field="TREADLE_DEVICE",
        ) from error
    return torch.device(name)


def _source(location: ModelLocation, job: Job) -> str:
    """What transformers loads: a folder, which is checked here, or a hub id."""
    if location.kind == "hub":
        return location.name
    folder = job.input(BASE) if location.kind == "artifact" else Path(location.name)
    if not folder.is_dir():
        raise BadConfiguration(f"model {location}: there is no folder {folder} on this machine", field=FIELD)
    if not (folder / "config.json").is_file():
        raise BadConfiguration(
            f"model {location}: the folder has no config.json; expected a Hugging Face model", field=FIELD
        )
    _require_safetensors(folder, str(location))
    return str(folder)


def _require_safetensors(folder: Path, name: str) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    present = f"only {', '.join(pickles)}, and pickles are never loaded" if pickles else "no weights at all"
    raise BadConfiguration(f"model {name}: expected weights as *.safetensors, found {present}", field=FIELD)


def _require_all_weights(missing: set[str], location: ModelLocation) -> None:
    """Raise if tensors are missing, which transformers initializes at random; a tied head does not count as missing."""
    if not missing:
        return
    names = ", ".join(sorted(missing)[:MAX_NAMED_TENSORS]) + (" and more" if len(missing) > MAX_NAMED_TENSORS else "")
    raise BadConfiguration(
        f"model {location}: its *.safetensors lack {len(missing)} of its tensors: {names}; "
        "expected all tensors that its config.json describes",
        field=FIELD,
    )


def _from_pretrained(location: ModelLocation, source: str, method: Any, **options: Any) -> Any:  # noqa: ANN401  # untyped
    """Call `method`, a `from_pretrained`; an error in the model becomes one sentence."""
    tried = _described(location, source)
    with _as_bad_configuration(f"model {location}: could not be loaded as a causal language model; tried {tried}"):
        return method(source, **options)


@contextmanager
def _as_bad_configuration(sentence: str) -> Iterator[None]:
    """Raise the libraries' errors as BadConfiguration, except out-of-memory errors."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # malformed files raise many types; tokenizers raises a plain Exception
        raise BadConfiguration(f"{sentence}: {_reason(error)}", field=FIELD) from error


def _described(location: ModelLocation, source: str) -> str:
    if location.kind != "hub":
        return source
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}
    return f"the hub id {source}" + (" in the local cache, because HF_HUB_OFFLINE is set" if offline else "")


def _reason(error: Exception) -> str:
    if "custom code" in str(error):
        return "it contains its own code, which runs only with TREADLE_ALLOW_REMOTE_CODE=true (trust_remote_code)"
    return _in_one_line(error)


def _merge(model: PreTrainedModel, folder: Path, name: str) -> PreTrainedModel:
    """The model with the adapter in `folder` merged into its weights; peft checks the result for NaN."""
    _require_safetensors(folder, name)
    with _as_bad_configuration(f"model {name}: the adapter does not fit"):
        merged: PreTrainedModel = PeftModel.from_pretrained(model, folder).merge_and_unload(safe_merge=True)
    return merged


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_REASON_LENGTH] or type(error).__name__
