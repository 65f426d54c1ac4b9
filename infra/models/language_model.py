"""Load a causal language model and its tokenizer. Only programs import this: it needs torch and transformers.

Weights are read from safetensors alone, never from pickles, and code from the hub runs only where it was asked for.
How a row becomes tokens is in `infra.models.chat_format`.
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
LONGEST_REASON = 400
NAMED_KEYS = 5
"""Missing tensors that an error names, at most."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load(
    location: ModelLocation, job: Job, *, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, adapters merged, in eval mode on `device()`, and its tokenizer.

    `dtype` None: float32 on a CPU, else as saved. Raises BadConfiguration naming the model and what was tried.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    where = device()
    source = _source(location, job)
    options = {"trust_remote_code": location.trust_remote_code, "local_files_only": location.kind != "hub"}
    tokenizer = _attempt(location, source, AutoTokenizer.from_pretrained, **options)
    model, found = _attempt(
        location,
        source,
        AutoModelForCausalLM.from_pretrained,
        use_safetensors=True,
        dtype=dtype or (torch.float32 if where.type == "cpu" else "auto"),
        output_loading_info=True,
        **options,
    )
    _require_all_weights(found["missing_keys"], location)
    for name in location.adapters:
        model = _merge(model, job.input(name), f"{location} with {name}")
    return model.to(where).eval(), tokenizer


def device() -> torch.device:
    """The device to compute on: TREADLE_DEVICE where it is set, else CUDA, MPS or CPU, whichever is there first."""
    wanted = os.environ.get("TREADLE_DEVICE")
    if not wanted:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator and accelerator.type in {"cuda", "mps"} else torch.device("cpu")
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadConfiguration(
            f"TREADLE_DEVICE is {wanted!r}, which torch cannot use here ({_in_one_line(error)}); "
            "set it to cpu, cuda or mps, or leave it out",
            field="TREADLE_DEVICE",
        ) from error
    return torch.device(wanted)


def _source(location: ModelLocation, job: Job) -> str:
    """What transformers is asked to load: a checked folder, or a hub id."""
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
    found = f"only {', '.join(pickles)}, and pickles are never loaded" if pickles else "no weights at all"
    raise BadConfiguration(f"model {name}: expected weights as *.safetensors, found {found}", field=FIELD)


def _require_all_weights(missing: set[str], location: ModelLocation) -> None:
    """Left alone, transformers draws missing tensors at random. A head tied to the embeddings is not missing."""
    if not missing:
        return
    names = ", ".join(sorted(missing)[:NAMED_KEYS]) + (" and more" if len(missing) > NAMED_KEYS else "")
    raise BadConfiguration(
        f"model {location}: its *.safetensors lack {len(missing)} of its tensors: {names}; "
        "expected all that its config.json asks for",
        field=FIELD,
    )


def _attempt(location: ModelLocation, source: str, read: Any, **options: Any) -> Any:  # noqa: ANN401  # untyped library
    """Call `from_pretrained`; whatever it finds wrong with the model becomes one sentence."""
    tried = _tried(location, source)
    with _worded(f"model {location}: could not be loaded as a causal language model; tried {tried}"):
        return read(source, **options)


@contextmanager
def _worded(sentence: str) -> Iterator[None]:
    """Turn what the libraries raise into BadConfiguration; a lack of memory stays what it is."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a malformed file makes these libraries raise anything, tokenizers a bare Exception
        raise BadConfiguration(f"{sentence}: {_reason(error)}", field=FIELD) from error


def _tried(location: ModelLocation, source: str) -> str:
    if location.kind != "hub":
        return source
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}
    return f"the hub id {source}" + (" in the local cache, as HF_HUB_OFFLINE is set" if offline else "")


def _reason(error: Exception) -> str:
    if "custom code" in str(error):
        return "it brings code of its own, which runs only where TREADLE_ALLOW_REMOTE_CODE says so (trust_remote_code)"
    return _in_one_line(error)


def _merge(model: PreTrainedModel, folder: Path, name: str) -> PreTrainedModel:
    """The adapter of `folder` folded into the weights, checked for NaN by peft."""
    _require_safetensors(folder, name)
    with _worded(f"model {name}: the adapter does not fit"):
        merged: PreTrainedModel = PeftModel.from_pretrained(model, folder).merge_and_unload(safe_merge=True)
    return merged


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
