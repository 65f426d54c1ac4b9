from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from infra.child.program import Job
from infra.errors import BadConfiguration
from infra.models.language_model import device, load
from infra.models.model_inputs import ModelLocation
from tests.models import save_tiny_model


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


def _at(folder: Path, **more: object) -> ModelLocation:
    return ModelLocation(kind="path", name=str(folder), **more)


def _change(file: Path, change: Any) -> None:
    """Update the JSON object in the file if `change` is an object, and replace the content otherwise."""
    old = json.loads(file.read_text())
    file.write_text(json.dumps(old | change if isinstance(change, dict) else change))


def test_a_model_is_loaded_from_a_folder(model: Path, job: Job) -> None:
    loaded, tokenizer = load(_at(model), job)
    assert loaded.get_input_embeddings().num_embeddings == len(tokenizer)


def test_a_model_from_the_object_store_is_loaded_from_its_input(job: Job) -> None:
    save_tiny_model(job.input("base"))
    assert load(ModelLocation(kind="artifact", name="models/t/1/a1"), job)


def test_pickled_weights_are_refused(model: Path, job: Job) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(BadConfiguration, match=r"found only pytorch_model\.bin, and pickles are never loaded"):
        load(_at(model), job)


def test_a_missing_folder_is_named(tmp_path: Path, job: Job) -> None:
    with pytest.raises(BadConfiguration, match="nowhere"):
        load(_at(tmp_path / "nowhere"), job)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, job: Job) -> None:
    with pytest.raises(BadConfiguration, match=r"no config\.json"):
        load(_at(tmp_path), job)


def _lay(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        ([], "it is empty"),
        (["optimizer.pt", "rng_state.pth"], r"a checkpoint from which a training resumes \(optimizer\.pt"),
        (["optimizer.safetensors", "state.json"], r"a checkpoint from which .* \(optimizer\.safetensors"),
        (["tokenizer.json", "tokenizer_config.json"], r"only a tokenizer \(tokenizer\.json, tokenizer_config\.json\)"),
        (["model-q4.gguf"], r"it holds GGUF \(model-q4\.gguf\), which cannot be trained"),
        (["adapter_model.safetensors"], r"it holds weights \(adapter_model\.safetensors\) without their description"),
        (["notes.txt"], r"it holds notes\.txt"),
        (["config.json"], "found no weights at all"),
        (["config.json", "model.gguf"], r"found GGUF \(model\.gguf\)"),
        (["config.json", "optimizer.pt", "training_args.bin"], r"found a checkpoint from which a training resumes"),
        (["config.json", "pytorch_model.bin", "optimizer.pt"], r"found only pytorch_model\.bin, and pickles"),
        (["adapter_config.json"], r"expected the adapter's weights as adapter_model\.safetensors, found no weights"),
        (["adapter_config.json", "adapter_model.bin"], r"found only adapter_model\.bin, and pickles"),
        (["checkpoint-500/config.json", "checkpoint-90/config.json"], "name it: .*/checkpoint-500, .*/checkpoint-90$"),
        (["mine/adapter_config.json"], "name it: .*/mine$"),
        (["refs/main", "snapshots/abc/config.json"], "name it: .*/snapshots/abc$"),
    ],
)
def test_a_wrong_folder_is_named_by_what_it_holds(tmp_path: Path, job: Job, names: list[str], fault: str) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    _lay(folder, *names)
    with pytest.raises(BadConfiguration, match=f"^model path:{folder}: .*{fault}") as caught:
        load(_at(folder), job)
    assert caught.value.field == "model"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("model.gguf", "is a GGUF file, which cannot be trained"),
        ("model.safetensors", "is a file; expected the folder"),
    ],
)
def test_a_file_is_refused_as_a_model(tmp_path: Path, job: Job, name: str, fault: str) -> None:
    _lay(tmp_path, name)
    with pytest.raises(BadConfiguration, match=f"{name} {fault}"):
        load(_at(tmp_path / name), job)


def test_a_trainers_checkpoint_that_holds_a_whole_model_is_loaded(model: Path, job: Job) -> None:
    _lay(model, "optimizer.pt", "trainer_state.json")
    assert load(_at(model), job)


def test_an_unknown_architecture_is_refused(model: Path, job: Job) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "phantasm"}))
    with pytest.raises(BadConfiguration, match="phantasm"):
        load(_at(model), job)


def test_damaged_weights_are_refused(model: Path, job: Job) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BadConfiguration, match="could not be loaded"):
        load(_at(model), job)


def test_a_model_that_lacks_a_tensor_is_refused_by_its_name(model: Path, job: Job) -> None:
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadConfiguration, match=r"lack 1 of its tensors: model\.layers\.0\.mlp\.up_proj\.weight;"):
        load(_at(model), job)


def test_a_head_that_is_neither_stored_nor_tied_is_refused(model: Path, job: Job) -> None:
    _change(model / "config.json", {"tie_word_embeddings": False})
    with pytest.raises(BadConfiguration, match=r"lack 1 of its tensors: lm_head\.weight"):
        load(_at(model), job)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", []),
        ("config.json", {"hidden_size": "big"}),
        ("config.json", {"num_attention_heads": 0}),
        ("tokenizer.json", []),
        ("tokenizer.json", {"model": {"type": "Phantasm"}}),
        ("tokenizer_config.json", []),
    ],
)
def test_a_malformed_file_is_a_fault_of_the_model(model: Path, job: Job, file: str, change: Any) -> None:
    _change(model / file, change)
    with pytest.raises(BadConfiguration, match=f"^model path:{model}: could not be loaded"):
        load(_at(model), job)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError()])
def test_a_lack_of_memory_is_not_a_fault_of_the_model(
    model: Path, job: Job, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("infra.models.language_model.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(type(error)):
        load(_at(model), job)


def test_code_in_the_model_is_not_run_by_default(model: Path, job: Job) -> None:
    config = json.loads((model / "config.json").read_text())
    custom = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (model / "config.json").write_text(json.dumps(config | custom))
    (model / "own.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(BadConfiguration, match="trust_remote_code"):
        load(_at(model), job)


@pytest.mark.parametrize("trusted", [True, False])
def test_code_in_a_folder_does_not_run_even_if_the_worker_allows_code_of_the_hub(
    model: Path, job: Job, tmp_path: Path, trusted: bool
) -> None:
    config = json.loads((model / "config.json").read_text())
    custom = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (model / "config.json").write_text(json.dumps(config | custom))
    (model / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BadConfiguration):
        load(ModelLocation(kind="path", name=str(model), trust_remote_code=trusted), job)
    assert not (tmp_path / "ran").exists()


def test_a_hub_id_that_is_not_in_the_cache_is_named(tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadConfiguration, match="model hub:treadle/no-such-model"):
        load(ModelLocation(kind="hub", name="treadle/no-such-model"), job)


def test_an_adapter_that_is_a_pickle_is_refused(model: Path, job: Job) -> None:
    job.input("adapter-0").mkdir(parents=True)
    (job.input("adapter-0") / "adapter_model.bin").touch()
    with pytest.raises(BadConfiguration, match=r"with adapter-0: .* only adapter_model\.bin"):
        load(_at(model, adapters=("adapter-0",)), job)


def test_the_device_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_DEVICE", "cpu")
    assert device() == torch.device("cpu")


def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_DEVICE", "abacus")
    with pytest.raises(BadConfiguration) as caught:
        device()
    assert caught.value.field == "TREADLE_DEVICE"
