"""An adapter folder is given as a model: its base is followed and the adapter merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from infra.child.program import Job
from infra.errors import BadConfiguration
from infra.models.language_model import load
from infra.models.layers import find_layers
from infra.models.model_inputs import ModelLocation
from tests.models import save_adapter, save_tiny_model, tiny_tokenizer

IDS = torch.tensor([[3, 6, 7, 8, 9, 4]])

PEFT_WARNS = pytest.mark.filterwarnings(
    "ignore:.*tie_word_embeddings:UserWarning", "ignore:.*save_embedding_layers:UserWarning"
)
"""peft warns of what is done here: it merges adapters of tied embeddings, and saves embeddings."""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path: Path, base: Path) -> Path:
    return save_adapter(tmp_path / "adapter", base)


def _at(folder: Path, **more: object) -> ModelLocation:
    return ModelLocation(kind="path", name=str(folder), **more)


def _name_base(adapter: Path, base: object, **more: object) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base, **more}))


def _logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(IDS).logits
    return logits


def _equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return torch.allclose(_logits(one), _logits(other), atol=1e-4)


def test_an_adapter_is_merged_into_the_base_that_it_names(base: Path, adapter: Path, job: Job) -> None:
    loaded, _ = load(_at(adapter), job)
    assert _equal(loaded, AutoPeftModelForCausalLM.from_pretrained(adapter))
    assert not _equal(loaded, AutoModelForCausalLM.from_pretrained(base))


@pytest.mark.parametrize("name", ["../base", "base", "path:{base}"])
def test_a_base_may_be_named_in_other_ways(base: Path, adapter: Path, job: Job, name: str) -> None:
    if name == "base":
        shutil.copytree(base, adapter / "base")
    expected = AutoPeftModelForCausalLM.from_pretrained(adapter)
    _name_base(adapter, name.format(base=base))
    assert _equal(load(_at(adapter), job)[0], expected)


def test_an_adapter_on_an_adapter_is_merged_after_it(base: Path, adapter: Path, job: Job, tmp_path: Path) -> None:
    upper = save_adapter(tmp_path / "upper", base, seed=2)
    plain, lower, alone = (load(_at(folder), job)[0].state_dict() for folder in (base, adapter, upper))
    _name_base(upper, str(adapter))
    both = load(_at(upper), job)[0].state_dict()
    assert all(torch.allclose(both[key], lower[key] + alone[key] - plain[key], atol=1e-5) for key in both)


def test_the_base_of_an_adapter_may_be_on_the_hub(
    base: Path, adapter: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = AutoPeftModelForCausalLM.from_pretrained(adapter)
    _cached_on_hub(tmp_path / "cache", base, monkeypatch)
    _name_base(adapter, "org/base")
    assert _equal(load(_at(adapter), job)[0], expected)


def test_an_adapter_on_the_hub_is_merged_too(
    base: Path, adapter: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = AutoPeftModelForCausalLM.from_pretrained(adapter)
    _cached_on_hub(tmp_path / "cache", base, monkeypatch)
    _name_base(adapter, "org/base")
    _cached_on_hub(tmp_path / "cache", adapter, monkeypatch)
    layers = find_layers(ModelLocation(kind="hub", name="org/adapter"), job)
    assert layers.base.name == "hub:org/base"
    assert _equal(load(ModelLocation(kind="hub", name="org/adapter"), job)[0], expected)


def test_a_pinned_revision_of_the_base_is_followed(
    base: Path, adapter: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = AutoPeftModelForCausalLM.from_pretrained(adapter)
    _cached_on_hub(tmp_path / "cache", base, monkeypatch, revision="a" * 40)
    _cached_on_hub(tmp_path / "cache", save_tiny_model(tmp_path / "other" / "base", seed=5), monkeypatch)
    _name_base(adapter, "org/base", revision="a" * 40)
    assert find_layers(_at(adapter), job).base.name == f"hub:org/base@{'a' * 40}"
    assert _equal(load(_at(adapter), job)[0], expected)


def _cached_on_hub(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, revision: str = "0" * 40) -> None:
    """Lay the folder into a cache as the model `org/<its name>` of the hub, and use the cache only."""
    model = cache / f"models--org--{folder.name}"
    shutil.copytree(folder, model / "snapshots" / revision)
    (model / "refs").mkdir(exist_ok=True)
    (model / "refs" / "main").write_text(revision)
    for name, value in {"HF_HUB_OFFLINE": True, "HF_HUB_CACHE": str(cache)}.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)


def test_the_tokenizer_is_the_adapters_own_if_it_has_one(adapter: Path, job: Job) -> None:
    tiny_tokenizer(template="{{ 'own' }}").save_pretrained(adapter)
    assert load(_at(adapter), job)[1].chat_template == "{{ 'own' }}"


@pytest.mark.parametrize("missing", ["tokenizer.json", "tokenizer_config.json"])
def test_the_tokenizer_is_the_bases_if_the_adapters_is_incomplete(adapter: Path, job: Job, missing: str) -> None:
    tiny_tokenizer(template=None).save_pretrained(adapter)
    (adapter / missing).unlink()
    assert load(_at(adapter), job)[1].chat_template


def test_the_configuration_of_the_base_beside_an_adapter_does_not_hide_it(base: Path, adapter: Path, job: Job) -> None:
    expected = AutoPeftModelForCausalLM.from_pretrained(adapter)
    shutil.copy(base / "config.json", adapter)
    assert _equal(load(_at(adapter), job)[0], expected)


def test_an_artifact_that_is_an_adapter_is_followed(base: Path, job: Job) -> None:
    adapter = save_adapter(job.input("base"), base)
    loaded, _ = load(ModelLocation(kind="artifact", name="models/t/1/a1"), job)
    assert _equal(loaded, AutoPeftModelForCausalLM.from_pretrained(adapter))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("LoraConfig", {"use_dora": True}),
        ("LoraConfig", {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}}),
        ("LoraConfig", {"modules_to_save": ["embed_tokens", "lm_head"]}),
        ("LoraConfig", {"target_modules": ["embed_tokens", "q_proj"]}),
        ("LoraConfig", {"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}),
        ("LoraConfig", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6]}),
        ("LoHaConfig", {"target_modules": ["q_proj"], "init_weights": False}),
    ],
    ids=["dora", "rslora", "trained embeddings", "on tied embeddings", "tied adapter", "trained tokens", "loha"],
)
@PEFT_WARNS
def test_every_kind_of_adapter_that_can_be_merged_gives_the_logits_of_peft(
    base: Path, job: Job, tmp_path: Path, kind: str, settings: dict[str, object]
) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, kind=kind, **settings)
    _scramble(adapter)
    assert _equal(load(_at(adapter), job)[0], AutoPeftModelForCausalLM.from_pretrained(adapter))


def _scramble(adapter: Path) -> None:
    """Change the copies that replace weights of the base, as training does; low-rank matrices are random already."""
    torch.manual_seed(3)
    weights = load_file(adapter / "adapter_model.safetensors")
    for name, tensor in weights.items():
        if "lora_" not in name and "hada_" not in name and "base_layer" not in name:
            weights[name] = tensor + 0.1 * torch.randn_like(tensor)
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})


def test_embeddings_that_the_adapter_has_resized_are_resized(base: Path, adapter: Path, job: Job) -> None:
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = tiny_tokenizer(words=["one", "two", "three"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tuned = PeftModel.from_pretrained(model, adapter)
    tuned.save_pretrained(adapter, save_embedding_layers=True)
    tokenizer.save_pretrained(adapter)
    loaded, own = load(_at(adapter), job)
    assert loaded.get_input_embeddings().num_embeddings == len(own) == len(tokenizer)
    assert _equal(loaded, tuned)


@PEFT_WARNS
def test_a_model_whose_embeddings_were_untied_is_saved_untied(base: Path, job: Job, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, modules_to_save=["embed_tokens"])
    _scramble(adapter)
    loaded, _ = load(_at(adapter), job)
    loaded.save_pretrained(tmp_path / "merged")
    assert _equal(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), loaded)


@pytest.mark.parametrize(
    "wanted", ["/nowhere/llama", "../nowhere", "", None, 7], ids=["a folder", "a relative folder", "empty", "null", "7"]
)
def test_a_base_that_is_not_found_is_named_with_the_adapter_and_the_fix(
    adapter: Path, job: Job, wanted: object
) -> None:
    _name_base(adapter, wanted)
    with pytest.raises(BadConfiguration) as caught:
        load(_at(adapter), job)
    assert f"the adapter path:{adapter} names the base {wanted!r}" in str(caught.value)
    assert f"to base_model_name_or_path in {adapter / 'adapter_config.json'}" in str(caught.value)


def test_a_base_on_the_hub_that_cannot_be_fetched_is_named_with_its_adapter(
    adapter: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _name_base(adapter, "treadle/no-such-base")
    with pytest.raises(
        BadConfiguration, match=rf"hub:treadle/no-such-base, the base that .*{adapter}/adapter_config.json names"
    ):
        load(_at(adapter), job)


def test_an_adapter_whose_base_is_in_the_object_store_names_the_command_that_fetches_both(
    adapter: Path, job: Job
) -> None:
    _name_base(adapter, "artifact:models/t/1/a1")
    with pytest.raises(BadConfiguration, match="treadle download"):
        load(_at(adapter), job)


def test_an_artifact_may_not_name_a_folder_beside_itself(base: Path, job: Job) -> None:
    adapter = save_adapter(job.input("base"), base)
    _name_base(adapter, "../../base")
    with pytest.raises(BadConfiguration, match="names the base"):
        load(ModelLocation(kind="artifact", name="models/t/1/a1"), job)


def test_adapters_in_a_circle_are_refused(adapter: Path, job: Job) -> None:
    _name_base(adapter, str(adapter))
    with pytest.raises(BadConfiguration, match=f"found path:{adapter} on path:{adapter}"):
        load(_at(adapter), job)


def test_the_lower_adapter_is_merged_first(base: Path, adapter: Path, job: Job, tmp_path: Path) -> None:
    upper = save_adapter(tmp_path / "upper", base, seed=2)
    _name_base(upper, str(adapter))
    layers = find_layers(_at(upper), job)
    assert (layers.base.folder, layers.folders) == (base, (adapter, upper))


@pytest.mark.parametrize("count", [8, 9])
def test_at_most_eight_adapters_are_followed(base: Path, adapter: Path, job: Job, tmp_path: Path, count: int) -> None:
    below = base
    for number in range(count):
        folder = shutil.copytree(adapter, tmp_path / f"level-{number}")
        _name_base(folder, str(below))
        below = folder
    if count == 8:
        assert len(find_layers(_at(below), job).adapters) == 8
    else:
        with pytest.raises(BadConfiguration, match="expected at most 8 adapters"):
            find_layers(_at(below), job)


def test_an_adapter_of_another_model_is_refused(adapter: Path, job: Job, tmp_path: Path) -> None:
    from tests.models import tiny_model

    wide = tmp_path / "wide"
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(wide)
    tiny_model(len(tokenizer), hidden=64).save_pretrained(wide)
    _name_base(adapter, str(wide))
    with pytest.raises(BadConfiguration, match=f"with path:{adapter}: the adapter does not fit: .*size mismatch"):
        load(_at(adapter), job)


@pytest.mark.parametrize(("layer", "fault"), [("7", "has tensors without a place"), (None, "lacks tensors")])
def test_an_adapter_is_never_loaded_in_part(adapter: Path, job: Job, layer: str | None, fault: str) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    for name in [name for name in weights if "layers.1" in name]:
        tensor = weights[name] if layer else weights.pop(name)
        if layer:
            weights[name.replace("layers.1", f"layers.{layer}")] = tensor.clone()
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        BadConfiguration, match=f"the adapter {fault}: .*; expected an adapter that was trained on this"
    ):
        load(_at(adapter), job)


def test_an_adapter_of_prompts_is_refused_by_its_type(base: Path, job: Job, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", base, kind="PromptTuningConfig", num_virtual_tokens=2)
    with pytest.raises(BadConfiguration, match="type PROMPT_TUNING changes prompts, not weights"):
        load(_at(adapter), job)


def test_a_pickled_adapter_is_refused_although_other_safetensors_lie_beside_it(adapter: Path, job: Job) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "optimizer.safetensors")
    (adapter / "adapter_model.bin").touch()
    with pytest.raises(BadConfiguration, match=r"found only adapter_model\.bin, and pickles are never loaded"):
        load(_at(adapter), job)


def test_a_whole_model_with_an_adapter_in_the_same_folder_is_refused(base: Path, adapter: Path, job: Job) -> None:
    shutil.copytree(base, adapter, dirs_exist_ok=True)
    with pytest.raises(BadConfiguration, match=r"holds a whole model .* and an adapter"):
        load(_at(adapter), job)


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_malformed_adapter_configuration_is_named(adapter: Path, job: Job, content: str) -> None:
    (adapter / "adapter_config.json").write_text(content)
    with pytest.raises(BadConfiguration, match=r"adapter_config\.json is not a JSON object"):
        load(_at(adapter), job)


def test_code_of_the_base_is_not_run_by_default(base: Path, adapter: Path, job: Job) -> None:
    config = json.loads((base / "config.json").read_text())
    custom = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (base / "config.json").write_text(json.dumps(config | custom))
    (base / "own.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(BadConfiguration, match="trust_remote_code"):
        load(_at(adapter), job)


def test_an_adapter_and_its_tokenizer_are_read_by_the_library_too(adapter: Path) -> None:
    tiny_tokenizer().save_pretrained(adapter)
    assert len(AutoTokenizer.from_pretrained(adapter)) == len(tiny_tokenizer())
