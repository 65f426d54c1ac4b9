"""Checks that a folder holds a model or an adapter, and says what it holds instead if it does not."""

from __future__ import annotations

from os.path import exists, isdir  # unlike Path's, false for what can be no name
from pathlib import Path

from infra.errors import BadConfiguration
from infra.models.config_bounds import require_bounded, require_own_files
from infra.models.plain_files import FIELD, MAX_FILE_BYTES, read_json, require_plain
from infra.models.safetensors_header import Stored, read_header
from infra.models.weights import indexes, stored_tensors, weight_files

CONFIG, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TRAINER_STATE = (
    *("optimizer.pt", "optimizer.bin", "optimizer.safetensors", "scheduler.pt", "trainer_state.json"),
    *("training_args.bin", "rng_state*.pth", "global_step*"),
)
"""What trainers keep beside the weights to resume a training."""
TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "tekken.json", "vocab.json", "vocab.txt")
NESTED = ("*/config.json", "*/adapter_config.json", "snapshots/*/config.json")
"""Places of models in a folder that holds several, such as a trainer's output or an entry of the hub's cache."""
MAX_NAMED_FILES = 5


def is_adapter(folder: Path, name: str) -> bool:
    """Whether the folder holds an adapter without its base; `name` is that of the model in error messages.

    Raises BadConfiguration if it holds an adapter and a whole model, or neither as safetensors.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        _require_model(folder, name)
        return False
    whole = _first(folder, "model*.safetensors")
    if whole and (folder / CONFIG).is_file():
        raise BadConfiguration(
            f"model {name}: the folder holds a whole model ({CONFIG}, {', '.join(whole)}) and an adapter "
            f"({ADAPTER_CONFIG}); expected one of them, because the adapter may be merged already; "
            "move the one to use to a folder of its own",
            field=FIELD,
        )
    require_adapter_weights(folder, name)
    return True


def model_tensors(folder: Path, name: str, *, own_code: bool) -> dict[str, Stored]:
    """The stored tensors of a whole model, after checks of all files from which a library loads it.

    `name` is that of the model in error messages; its settings may name code if `own_code`. Raises BadConfiguration.
    """
    require_safe(folder, name, own_code=own_code)
    return stored_tensors(weight_files(folder, name, read_json(folder / CONFIG, name)), name)


def adapter_tensors(folder: Path, name: str) -> dict[str, Stored]:
    """The stored tensors of an adapter, after the same checks. Raises BadConfiguration."""
    require_safe(folder, name, own_code=False)
    return read_header(folder / ADAPTER_WEIGHTS, name)


def require_safe(folder: Path, name: str, *, own_code: bool) -> None:
    """Raise BadConfiguration if the folder has files that are not to be opened, or settings out of bounds.

    `name` is that of the model in error messages; its settings may name code if `own_code`.
    """
    require_folder(folder, name)
    require_plain(folder, name)
    indexes(folder, name)
    for file in (folder / CONFIG, folder / ADAPTER_CONFIG):
        if file.is_file():
            require_bounded(read_json(file, name), file, name, own_code=own_code)
    if (folder / TOKENIZER_CONFIG).is_file():
        config = read_json(folder / TOKENIZER_CONFIG, name, MAX_FILE_BYTES)
        require_own_files(config, folder / TOKENIZER_CONFIG, name)


def require_adapter_weights(folder: Path, name: str) -> None:
    """Raise BadConfiguration if the folder has no adapter weights as safetensors."""
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise BadConfiguration(
            f"model {name}: expected the adapter's weights as {ADAPTER_WEIGHTS}, found {_weights(folder)}", field=FIELD
        )


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds a complete tokenizer."""
    return (folder / TOKENIZER_CONFIG).is_file() and bool(_first(folder, *VOCABULARIES))


def require_folder(folder: Path, name: str) -> None:
    """Raise BadConfiguration, which says what is there instead, if there is no such folder."""
    if isdir(folder):
        return
    if folder.suffix == ".gguf":
        fault = f"{folder} is a GGUF file, which cannot be trained; expected the folder of the model before conversion"
    elif exists(folder):
        fault = f"{folder} is a file; expected the folder of a Hugging Face model, which holds {CONFIG}"
    else:
        fault = f"there is no folder {folder} on this machine"
    raise BadConfiguration(f"model {name}: {fault}", field=FIELD)


def _require_model(folder: Path, name: str) -> None:
    if not (folder / CONFIG).is_file():
        raise BadConfiguration(
            f"model {name}: the folder has no {CONFIG} and no {ADAPTER_CONFIG}; {_description(folder)}; "
            f"expected a Hugging Face model or adapter{_suggestion(folder)}",
            field=FIELD,
        )
    if not any(folder.glob("*.safetensors")):
        raise BadConfiguration(
            f"model {name}: expected weights as *.safetensors, found {_weights(folder)}{_suggestion(folder)}",
            field=FIELD,
        )


def _description(folder: Path) -> str:
    """What the folder without a config holds, as part of a sentence."""
    if not any(folder.iterdir()):
        return "it is empty"
    if found := _first(folder, *TRAINER_STATE):
        return f"it is a checkpoint from which a training resumes ({', '.join(found)}), not a saved model"
    if found := _first(folder, "*.gguf"):
        return f"it holds GGUF ({', '.join(found)}), which cannot be trained"
    if found := _first(folder, "*.safetensors", *PICKLES):
        return f"it holds weights ({', '.join(found)}) without their description"
    if found := _first(folder, TOKENIZER_CONFIG, *VOCABULARIES):
        return f"it holds only a tokenizer ({', '.join(found)})"
    return f"it holds {', '.join(_first(folder, '*'))}"


def _weights(folder: Path) -> str:
    """What the folder without safetensors holds, as the end of a sentence."""
    state = _first(folder, *TRAINER_STATE)
    if pickles := [name for name in _first(folder, *PICKLES) if name not in state]:
        return f"only {', '.join(pickles)}, and pickles are never loaded; convert them to safetensors"
    if state:
        return f"a checkpoint from which a training resumes ({', '.join(state)}), not a saved model"
    if found := _first(folder, "*.gguf"):
        return f"GGUF ({', '.join(found)}), which cannot be trained"
    return "no weights at all"


def _suggestion(folder: Path) -> str:
    nested = [str(folder / name) for name in _first(folder, *NESTED)]
    return f"; to use one of these, name it: {', '.join(str(Path(name).parent) for name in nested)}" if nested else ""


def _first(folder: Path, *patterns: str) -> list[str]:
    """The first few files or folders that match, relative to `folder`."""
    found = {str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern)}
    return sorted(found)[:MAX_NAMED_FILES]
