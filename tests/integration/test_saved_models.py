"""What a training writes is complete and is loaded by transformers and peft without editing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from contracts.options import Hyperparameters
from contracts.tasks import ModelSource
from infra.child.program import Job
from infra.errors import BadConfiguration
from infra.models.language_model import load
from infra.models.layers import Source
from infra.models.model_inputs import ModelLocation, model_inputs
from infra.models.saved_weights import saved_dtype
from tests.models import colour_rows, save_adapter, save_tiny_model, tiny_model, tiny_tokenizer, write_rows
from trainer_worker.programs import train
from trainer_worker.programs.portable import add_old_config_names
from trainer_worker.spec import TrainResult, TrainSpec

IDS = torch.tensor([[3, 6, 7, 8, 9, 4]])
PEFT_WARNS = pytest.mark.filterwarnings(
    "ignore:.*tie_word_embeddings:UserWarning", "ignore:.*save_embedding_layers:UserWarning"
)
"""peft warns if an adapter changes tied embeddings, and if it saves embeddings."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Use one thread, because more are slower on a model this small, above all while other tests run."""
    torch.set_num_threads(1)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "base")


def _path(folder: Path, **more: object) -> ModelLocation:
    return ModelLocation(kind="path", name=str(folder), **more)


def _train(folder: Path, model: ModelLocation, method: str = "lora", **options: object) -> TrainResult:
    settings = {"tokens_per_batch": 96, "max_length": 48, "max_steps": 4, "learning_rate": 5e-2, "lora_rank": 4}
    hyper = Hyperparameters.model_validate(settings | {"method": method} | options)
    write_rows(folder / "input" / "rows" / "train.jsonl", colour_rows(4))
    return train.main(TrainSpec(model=model, hyperparameters=hyper, seed=3), Job(folder))


def _logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(IDS).logits
    return logits.float()


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(_json(file) | values))


def _cast(folder: Path, dtype: torch.dtype, only: Callable[[str], bool] = lambda _: True) -> None:
    file = folder / "model.safetensors"
    weights = {name: tensor.to(dtype) if only(name) else tensor for name, tensor in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def _dtypes(folder: Path) -> set[torch.dtype]:
    return {tensor.dtype for file in folder.glob("*.safetensors") for tensor in load_file(file).values()}


# A whole model keeps its base's floating-point type.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_whole_model_is_saved_in_the_type_of_its_base(tmp_path: Path, base: Path, dtype: torch.dtype) -> None:
    _cast(base, dtype)
    _train(tmp_path / "job", _path(base), "full")
    assert _dtypes(tmp_path / "job" / "out") == {dtype}


def test_a_model_of_bfloat16_does_not_become_larger(tmp_path: Path, base: Path) -> None:
    _cast(base, torch.bfloat16)
    _train(tmp_path / "job", _path(base), "full")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (base, tmp_path / "job" / "out")]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_the_weights_decide_if_the_configuration_names_another_type(tmp_path: Path, base: Path) -> None:
    _cast(base, torch.bfloat16)
    _change(base / "config.json", dtype="float32", torch_dtype="float16")
    _train(tmp_path / "job", _path(base), "full")
    assert _dtypes(tmp_path / "job" / "out") == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_saved_configuration_names_the_type_of_the_saved_weights(tmp_path: Path, base: Path, dtype: str) -> None:
    _cast(base, getattr(torch, dtype))
    _train(tmp_path / "job", _path(base), "full")
    saved = _json(tmp_path / "job" / "out" / "config.json")
    assert (saved["dtype"], saved["torch_dtype"]) == (dtype, dtype)


def test_a_base_of_several_types_keeps_the_type_of_each_tensor(tmp_path: Path, base: Path) -> None:
    _cast(base, torch.bfloat16, only=lambda name: "norm" not in name)
    _train(tmp_path / "job", _path(base), "full")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "job" / "out"))
    assert {name: tensor.dtype for name, tensor in after.items()} == {name: t.dtype for name, t in before.items()}
    assert _json(tmp_path / "job" / "out" / "config.json")["dtype"] == "bfloat16"


def test_a_base_in_several_files_keeps_its_type(tmp_path: Path, base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size="30KB")
    save_file({"unused": torch.zeros(10**6)}, base / "adapter_of_another.safetensors")
    assert (base / "model.safetensors.index.json").exists()
    _train(tmp_path / "job", _path(base), "full")
    assert _dtypes(tmp_path / "job" / "out") == {torch.bfloat16}


def test_a_base_with_an_adapter_keeps_the_type_of_the_base(tmp_path: Path, base: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base)
    _cast(base, torch.bfloat16)
    _train(tmp_path / "job", _path(adapter), "full")
    assert _dtypes(tmp_path / "job" / "out") == {torch.bfloat16}


def test_an_adapter_is_saved_in_float32_whatever_its_base_is(tmp_path: Path, base: Path) -> None:
    _cast(base, torch.bfloat16)
    _train(tmp_path / "job", _path(base))
    assert _dtypes(tmp_path / "job" / "out") == {torch.float32}


# An adapter names its base so that peft finds it.


def test_an_adapter_is_loaded_by_peft_without_editing(tmp_path: Path, base: Path) -> None:
    _train(tmp_path / "job", _path(base))
    tuned = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "job" / "out")
    assert not torch.allclose(_logits(tuned), _logits(AutoModelForCausalLM.from_pretrained(base)), atol=1e-2)


def test_an_adapter_names_the_absolute_folder_of_its_base(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _train(tmp_path / "job", _path(Path("base")))
    assert _json(tmp_path / "job" / "out" / "adapter_config.json")["base_model_name_or_path"] == str(base)


def test_an_adapter_of_a_base_on_the_hub_names_its_id_and_its_revision(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cache(tmp_path / "cache", base, monkeypatch)
    _train(tmp_path / "job", ModelLocation(kind="hub", name=f"org/base@{'a' * 40}"))
    config = _json(tmp_path / "job" / "out" / "adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", "a" * 40)


def test_a_whole_model_keeps_the_type_of_its_base_on_the_hub(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cast(base, torch.bfloat16)
    _cache(tmp_path / "cache", base, monkeypatch)
    _train(tmp_path / "job", ModelLocation(kind="hub", name=f"org/base@{'a' * 40}"), "full")
    assert _dtypes(tmp_path / "job" / "out") == {torch.bfloat16}


def _cache(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the folder into a cache of the hub, as revision `a…a` of org/base, and use only the cache."""
    (cache / "models--org--base" / "snapshots").mkdir(parents=True)
    folder.rename(cache / "models--org--base" / "snapshots" / ("a" * 40))
    for name, value in {"HF_HUB_OFFLINE": True, "HF_HUB_CACHE": str(cache)}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)


def test_an_adapter_of_a_base_in_the_object_store_names_a_base_that_nothing_mistakes_for_another(
    tmp_path: Path, base: Path
) -> None:
    (tmp_path / "job" / "input").mkdir(parents=True)
    base.rename(tmp_path / "job" / "input" / "base")
    result = _train(tmp_path / "job", ModelLocation(kind="artifact", name="models/base"))
    assert result.base == "artifact:models/base"
    with pytest.raises((OSError, ValueError), match="artifact:models/base"):
        AutoPeftModelForCausalLM.from_pretrained(tmp_path / "job" / "out")


# An adapter on adapters is complete.


@pytest.fixture
def in_training(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The logits of each trained model before it is saved."""
    logits: list[torch.Tensor] = []
    save = train.save_model

    def record(model: Any, *more: Any) -> None:
        logits.append(_logits(model))
        save(model, *more)

    monkeypatch.setattr(train, "save_model", record)
    return logits


def _by_peft(job: Path) -> torch.Tensor:
    return _logits(AutoPeftModelForCausalLM.from_pretrained(job / "out"))


def _by_product(result: TrainResult, job: Path, given: Path) -> torch.Tensor:
    """The logits of the model as the worker's event names it, if `given` was the base of the command."""
    plain = result.base == f"path:{given}"
    model = ModelSource(base=f"path:{given}", adapters=("models/out",)) if plain else ModelSource(base="artifact:out")
    (name, *_), location = model_inputs(model)
    evaluation = Job(_made(job / "evaluation"))
    (job / "out").rename(_made(evaluation.folder / "input") / name)
    return _logits(load(location, evaluation)[0])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _train_on(job: Path, model: Path, *adapters: Path, **options: object) -> TrainResult:
    """Train on a model with adapters, which are given as a task's model that was trained before."""
    (job / "input").mkdir(parents=True)
    for number, adapter in enumerate(adapters):
        adapter.rename(job / "input" / f"adapter-{number}")
    names = tuple(f"adapter-{number}" for number in range(len(adapters)))
    return _train(job, _path(model, adapters=names), **options)


def test_an_adapter_trained_on_an_adapter_includes_it(
    tmp_path: Path, base: Path, in_training: list[torch.Tensor]
) -> None:
    _train_on(tmp_path / "1", base, lora_rank=3)
    result = _train_on(tmp_path / "2", base, tmp_path / "1" / "out")
    assert torch.allclose(_by_peft(tmp_path / "2"), in_training[1], atol=1e-4)
    assert torch.allclose(_by_product(result, tmp_path / "2", base), in_training[1], atol=1e-4)


def test_a_third_adapter_includes_the_second_which_includes_the_first(
    tmp_path: Path, base: Path, in_training: list[torch.Tensor]
) -> None:
    _train_on(tmp_path / "1", base)
    _train_on(tmp_path / "2", base, tmp_path / "1" / "out")
    _train_on(tmp_path / "3", base, tmp_path / "2" / "out")
    assert torch.allclose(_by_peft(tmp_path / "3"), in_training[2], atol=1e-4)


def test_adapters_of_earlier_versions_each_on_the_one_before_are_included(
    tmp_path: Path, base: Path, in_training: list[torch.Tensor]
) -> None:
    chain = [save_adapter(tmp_path / f"a{seed}", base, seed=seed) for seed in (1, 2)]
    result = _train_on(tmp_path / "job", base, *chain)
    assert torch.allclose(_by_peft(tmp_path / "job"), in_training[0], atol=1e-4)
    assert torch.allclose(_by_product(result, tmp_path / "job", base), in_training[0], atol=1e-4)


KINDS: dict[str, dict[str, object]] = {
    "another rank": {"r": 2, "lora_alpha": 7},
    "rslora": {"use_rslora": True, "r": 6},
    "patterns": {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 7}, "alpha_pattern": {"q_proj": 3}},
    "the head": {"target_modules": ["q_proj", "lm_head"]},
    "tied embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "some layers": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    "a regular expression": {"target_modules": r".*layers\.0.*(q|k)_proj"},
    "trained embeddings": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "trained norms": {"modules_to_save": ["norm"]},
}


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
@PEFT_WARNS
def test_an_adapter_of_another_tool_is_included_if_it_was_given_as_the_base(
    tmp_path: Path, base: Path, in_training: list[torch.Tensor], settings: dict[str, object]
) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, **settings)
    _shift_copies(adapter)
    result = _train_on(tmp_path / "job", adapter)
    assert result.base == f"path:{base}"
    assert torch.allclose(_by_peft(tmp_path / "job"), in_training[0], atol=1e-4)
    assert torch.allclose(_by_product(result, tmp_path / "job", adapter), in_training[0], atol=1e-4)


def _shift_copies(adapter: Path) -> None:
    """Change the embeddings and the last norm that replace those of the base, as training does."""
    weights = load_file(adapter / "adapter_model.safetensors")
    copies = [name for name in weights if "layer" not in name]
    shifted = weights | {name: weights[name] * (1.1 + 0.1 * number) for number, name in enumerate(copies)}
    save_file(shifted, adapter / "adapter_model.safetensors", metadata={"format": "pt"})


def test_a_combined_adapter_has_one_rank_and_no_scale_for_all_modules(tmp_path: Path, base: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, target_modules=["q_proj"], r=3, lora_alpha=5)
    _train_on(tmp_path / "job", adapter)
    config = _json(tmp_path / "job" / "out" / "adapter_config.json")
    weights = load_file(tmp_path / "job" / "out" / "adapter_model.safetensors")
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (7, 7, {}, {})
    assert {min(tensor.shape) for tensor in weights.values()} == {7}


@PEFT_WARNS
def test_an_upper_adapter_that_holds_the_merged_head_is_refused(tmp_path: Path, base: Path) -> None:
    chain = [save_adapter(tmp_path / f"a{seed}", base, seed=seed, target_modules=["lm_head"]) for seed in (1, 2)]
    with pytest.raises(BadConfiguration, match="adapter-1 replaces lm_head, which an adapter changes too"):
        _train_on(tmp_path / "job", base, *chain)


OTHERS: list[tuple[str, dict[str, object], str]] = [
    ("LoraConfig", {"use_dora": True}, "uses use_dora"),
    ("LoraConfig", {"bias": "lora_only"}, "uses bias"),
    ("LoraConfig", {"trainable_token_indices": [5]}, "uses trainable_token_indices"),
    ("LoraConfig", {"init_lora_weights": "pissa"}, "init_lora_weights 'pissa', which changes its base"),
    ("LoraConfig", {"target_modules": ["k_proj"], "modules_to_save": ["q_proj"]}, r"replaces .*q_proj"),
    ("LoHaConfig", {"target_modules": ["q_proj"], "init_weights": False}, "is of type LOHA"),
]


@pytest.mark.parametrize(("kind", "settings", "reason"), OTHERS, ids=[reason for _, _, reason in OTHERS])
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning", "ignore:.*biases:UserWarning")
def test_an_adapter_that_cannot_be_included_is_refused_before_training(
    tmp_path: Path, base: Path, kind: str, settings: dict[str, object], reason: str, in_training: list[torch.Tensor]
) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, kind=kind, **settings)
    with pytest.raises(BadConfiguration, match=f"the adapter path:{adapter} .*{reason}.*use method full") as caught:
        _train_on(tmp_path / "job", adapter)
    assert caught.value.field == "method"
    assert not in_training


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"target_modules": ["embed_tokens"]}], ids=["dora", "tied"])
@PEFT_WARNS
def test_method_full_merges_every_adapter_into_a_whole_model(
    tmp_path: Path, base: Path, settings: dict[str, object], in_training: list[torch.Tensor]
) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, **settings)
    _train_on(tmp_path / "job", adapter, method="full")
    assert torch.allclose(
        _logits(AutoModelForCausalLM.from_pretrained(tmp_path / "job" / "out")), in_training[0], atol=1e-4
    )


# Everything that a model needs elsewhere is there.


def test_a_whole_model_is_loaded_without_a_warning(
    tmp_path: Path, base: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _train(tmp_path / "job", _path(base), "full")
    capfd.readouterr()
    with caplog.at_level(logging.WARNING):
        AutoModelForCausalLM.from_pretrained(tmp_path / "job" / "out")
        AutoTokenizer.from_pretrained(tmp_path / "job" / "out")
    assert (capfd.readouterr().err, caplog.records) == ("", [])


def test_an_adapter_is_loaded_without_a_warning(
    tmp_path: Path, base: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _train(tmp_path / "job", _path(base))
    capfd.readouterr()
    with caplog.at_level(logging.WARNING):
        AutoPeftModelForCausalLM.from_pretrained(tmp_path / "job" / "out")
        AutoTokenizer.from_pretrained(tmp_path / "job" / "out")
    assert (capfd.readouterr().err, caplog.records) == ("", [])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_tokenizer_is_saved_with_its_template_beside_the_weights(tmp_path: Path, base: Path, method: str) -> None:
    _train(tmp_path / "job", _path(base), method)
    out = tmp_path / "job" / "out"
    assert (out / "chat_template.jinja").read_text() == AutoTokenizer.from_pretrained(base).chat_template
    assert AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(base).get_vocab()


def test_the_settings_of_generation_are_kept_even_if_they_are_inconsistent(tmp_path: Path, base: Path) -> None:
    _change(base / "generation_config.json", temperature=0.6, do_sample=False, eos_token_id=[2, 5])
    _train(tmp_path / "job", _path(base), "full")
    saved = GenerationConfig.from_pretrained(tmp_path / "job" / "out")
    assert (saved.temperature, saved.eos_token_id) == (0.6, [2, 5])


@pytest.fixture
def padded(tmp_path: Path) -> Path:
    """A model with more embeddings than its tokenizer has tokens, as most published models have."""
    tokenizer = tiny_tokenizer()
    tiny_model(64).save_pretrained(tmp_path / "padded")
    tokenizer.save_pretrained(tmp_path / "padded")
    return tmp_path / "padded"


def test_padded_embeddings_are_saved_with_their_padding(tmp_path: Path, padded: Path) -> None:
    _train(tmp_path / "job", _path(padded), "full")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "job" / "out")
    assert (saved.config.vocab_size, saved.get_input_embeddings().num_embeddings) == (64, 64)


def test_an_adapter_of_a_base_with_padded_embeddings_is_loaded(
    tmp_path: Path, padded: Path, in_training: list[torch.Tensor]
) -> None:
    _train(tmp_path / "job", _path(padded))
    assert torch.allclose(_by_peft(tmp_path / "job"), in_training[0], atol=1e-4)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_input_and_output_embeddings_stay_tied(tmp_path: Path, base: Path, method: str) -> None:
    _train(tmp_path / "job", _path(base), method)
    loader = AutoModelForCausalLM if method == "full" else AutoPeftModelForCausalLM
    saved = loader.from_pretrained(tmp_path / "job" / "out")
    assert saved.get_output_embeddings().weight is saved.get_input_embeddings().weight


def test_older_names_of_a_bases_settings_are_kept_for_older_tools(tmp_path: Path, base: Path) -> None:
    rotary = {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    config = _json(base / "config.json")
    del config["rope_parameters"]
    (base / "config.json").write_text(json.dumps(config | rotary))
    _train(tmp_path / "job", _path(base), "full")
    saved = _json(tmp_path / "job" / "out" / "config.json")
    assert {name: saved[name] for name in rotary} == rotary
    assert saved["rope_parameters"] == {"rope_theta": 500000.0, **rotary["rope_scaling"]}


def test_older_names_are_kept_in_the_configuration_of_a_part_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"dtype": "float16", "rope_parameters": {}}}))
    add_old_config_names(tmp_path, {"text_config": {"rope_theta": 5.0, "quantization_config": {}}})
    text = _json(tmp_path / "config.json")["text_config"]
    assert text == {"dtype": "float16", "torch_dtype": "float16", "rope_parameters": {}, "rope_theta": 5.0}


def test_a_configuration_decides_if_no_tensor_is_of_a_floating_point_type(tmp_path: Path) -> None:
    save_file({"packed": torch.zeros(4, dtype=torch.int8)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"torch_dtype": "bfloat16"}}))
    assert saved_dtype(Source("path:/m", tmp_path)) is torch.bfloat16


def test_the_tokenizers_configuration_has_names_that_older_tools_know(tmp_path: Path, base: Path) -> None:
    _train(tmp_path / "job", _path(base))
    saved = _json(tmp_path / "job" / "out" / "tokenizer_config.json")
    assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert saved["additional_special_tokens"] == ["<|user|>", "<|assistant|>", "<|system|>"]
    assert not {"extra_special_tokens", "local_files_only"} & saved.keys()


def test_the_special_tokens_are_special_after_saving(tmp_path: Path, base: Path) -> None:
    _train(tmp_path / "job", _path(base))
    saved, before = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "job" / "out", base))
    assert saved.all_special_tokens == before.all_special_tokens
