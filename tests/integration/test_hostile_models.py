from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Regex, normalizers, pre_tokenizers

from infra.child.program import Job
from infra.errors import BadConfiguration
from infra.models import adapters
from infra.models.chat.speed import Speed
from infra.models.chat.template import Template
from infra.models.chat_format import ChatFormat
from infra.models.language_model import load, load_tokenizer
from infra.models.layers import find_layers
from infra.models.model_inputs import ModelLocation
from tests import chat_templates
from tests.models import colour_row, save_adapter, save_tiny_model, tiny_tokenizer
from tests.tokenizers import byte_level

BOMB = b"cos\nsystem\n(S'echo ran > ran'\ntR."
TEMPLATES = {name: value for name, value in vars(chat_templates).items() if name.isupper() and isinstance(value, str)}
OWN_FEATURES = (
    "{%- generation %}{{ messages | tojson(indent=1) }}{%- endgeneration %}{{ tools | tojson if tools }}\n"
    "   {% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}\n{{ m.thinking }}|"
    "{{ m.reasoning_content }}{{ m.missing is defined }}{% endfor %}{{ dict(a=1) }}"
    "{{ dict.fromkeys('ab', 1) }}{{ strftime_now('%Y') }}"
    "{% set n = namespace(self=1) %}{{ n.self }}{{ bos_token }}{{ eos_token }}{{ documents is none }}{{ unk_token }}"
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


def _at(folder: Path) -> ModelLocation:
    return ModelLocation(kind="path", name=str(folder))


def _change(file: Path, change: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def _split(folder: Path, entry: str = "") -> None:
    """Save the weights in two files with an index, in which `entry` stands for one tensor if it is given."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = dict(zip(weights, ["a.safetensors", "b.safetensors"] * len(weights), strict=False))
    for file in set(names.values()):
        save_file({key: weights[key] for key in weights if names[key] == file}, folder / file, {"format": "pt"})
    names |= {next(iter(names)): entry} if entry else {}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def test_weights_in_several_files_are_loaded(model: Path, job: Job) -> None:
    _split(model)
    assert load(_at(model), job)


@pytest.mark.parametrize("entry", ["pytorch_model.bin", "../../../../etc/passwd", "gone.safetensors"])
def test_an_index_cannot_name_a_pickle_or_another_place(model: Path, job: Job, entry: str) -> None:
    _split(model, entry)
    (model / "pytorch_model.bin").write_bytes(BOMB)
    with pytest.raises(BadConfiguration, match=rf"^model path:{model}: .*index\.json names .*{entry}"):
        load(_at(model), job)


def test_the_config_cannot_name_a_pickle(model: Path, job: Job) -> None:
    (model / "adapter_model.bin").write_bytes(BOMB)
    _change(model / "config.json", {"transformers_weights": "adapter_model.bin"})
    with pytest.raises(BadConfiguration, match=r"transformers_weights in config\.json is 'adapter_model\.bin'"):
        load(_at(model), job)


def test_pickles_beside_safetensors_are_never_opened(model: Path, job: Job) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        os.mkfifo(model / name)
    assert load(_at(model), job)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
def test_a_named_pipe_ends_the_loading_at_once(model: Path, job: Job, name: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(BadConfiguration, match=f"{name} is a named pipe"):
        load(_at(model), job)


def test_a_tokenizer_without_weights_is_checked_too(job: Job) -> None:
    save_tiny_model(job.input("base"))
    (job.input("base") / "special_tokens_map.json").symlink_to("/etc/passwd")
    with pytest.raises(BadConfiguration, match="leads out of the folder"):
        load_tokenizer(ModelLocation(kind="artifact", name="models/x"), job)


def test_an_adapter_that_was_downloaded_is_checked_too(model: Path, job: Job) -> None:
    save_adapter(job.input("adapter-0"), model)
    with (job.input("adapter-0") / "adapter_model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BadConfiguration, match=rf"^model path:{model} with adapter-0: .* is damaged"):
        load(ModelLocation(kind="path", name=str(model), adapters=("adapter-0",)), job)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"num_hidden_layers": 3_000_000}, r"num_hidden_layers in .*config\.json is 3000000, and at most 10,000"),
        ({"num_hidden_layers": 10_000}, "far more parts than"),
        ({"hidden_size": 2**20, "intermediate_size": 2**20}, "far more parameters than"),
        ({"vocab_size": 2**27}, "far more parameters than"),
    ],
)
def test_a_model_far_larger_than_its_weights_is_not_built(
    model: Path, job: Job, change: dict[str, Any], fault: str
) -> None:
    _change(model / "config.json", change)
    with pytest.raises(BadConfiguration, match=f"^model path:{model}: .*{fault}"):
        load(_at(model), job)


def test_an_adapter_far_larger_than_its_weights_is_not_built(model: Path, job: Job, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", model)
    _change(adapter / "adapter_config.json", {"r": 2**20})
    with pytest.raises(BadConfiguration, match="far more parameters than"):
        load(_at(adapter), job)


@pytest.mark.parametrize("base", ["a\0b", "a" * 5000, "x/" * 3000, "\ud800", "hub:../x", "", None, ["a"]], ids=str)
def test_a_base_that_can_be_no_name_is_refused_for_good(model: Path, job: Job, tmp_path: Path, base: Any) -> None:
    adapter = save_adapter(tmp_path / "adapter", model)
    _change(adapter / "adapter_config.json", {"base_model_name_or_path": base})
    with pytest.raises(BadConfiguration, match="which is no folder on this machine and no hub id") as caught:
        load(_at(adapter), job)
    assert len(str(caught.value)) < 1000 + 3 * len(str(adapter))


@pytest.mark.parametrize("path", ["/" + "a" * 900, "/a\0b"], ids=["long", "NUL"])
def test_a_path_that_can_be_no_name_is_no_folder(job: Job, path: str) -> None:
    with pytest.raises(BadConfiguration, match="there is no folder"):
        load(ModelLocation(kind="path", name=path), job)


def test_an_adapter_that_loads_others_is_refused(model: Path, job: Job, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", model)
    config = {"peft_type": "XLORA", "hidden_size": 48, "adapters": {"0": "/elsewhere"}}
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(model)}))
    with pytest.raises(BadConfiguration, match="type XLORA loads other adapters from the places that it names"):
        load(_at(adapter), job)


def test_an_adapters_endless_expression_is_ended(
    model: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = save_adapter(tmp_path / "adapter", model)
    _change(adapter / "adapter_config.json", {"target_modules": "(([a-z0-9_.]+)+)+!"})
    monkeypatch.setattr(adapters, "MAX_SECONDS", 0.5)
    with pytest.raises(BadConfiguration, match="simplify the regular expressions in adapter_config"):
        load(_at(adapter), job)


@pytest.mark.parametrize("name", ["./model", "../model", "../..", "-/-", "model"])
def test_a_hub_id_is_never_a_local_folder(
    model: Path, job: Job, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(model.parent)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BadConfiguration, match=r"is no hub id|could not be loaded from the hub"):
        load(ModelLocation(kind="hub", name=name), job)


def _cached(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay the folder into a cache of the hub as org/model, whose snapshot has links, and use only the cache."""
    repository = cache / "models--org--model"
    shutil.copytree(folder, repository / "blobs")
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for file in (repository / "blobs").iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return snapshot


@pytest.mark.parametrize("kind", ["hub", "path"])
def test_a_snapshot_of_the_hub_is_loaded(
    model: Path, job: Job, kind: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _split(model)
    snapshot = _cached(tmp_path / "cache", model, monkeypatch)
    assert load(ModelLocation(kind=kind, name="org/model" if kind == "hub" else str(snapshot)), job)


def test_a_snapshot_of_the_hub_is_checked_like_a_folder(
    model: Path, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _split(model, "pytorch_model.bin")
    _cached(tmp_path / "cache", model, monkeypatch)
    with pytest.raises(BadConfiguration, match=r"^model hub:org/model: .*names 'pytorch_model\.bin'"):
        load(ModelLocation(kind="hub", name="org/model"), job)


def test_a_revision_cannot_be_a_path(model: Path, job: Job, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", model)
    _change(adapter / "adapter_config.json", {"base_model_name_or_path": "org/base", "revision": "../../../x"})
    with pytest.raises(BadConfiguration, match=r"'org/base' at '\.\./\.\./\.\./x' is no hub id"):
        find_layers(_at(adapter), job)


def _rows(*, tools: bool) -> list[dict[str, Any]]:
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": [1, None, 1.5, "é\u2028"]}}}
    calls = {"tool_calls": [call]} if tools else {}
    return [
        {"role": "system", "content": "Be <b>brief</b>."},
        {"role": "user", "content": " what\ncolour ? "},
        {"role": "assistant", "content": "blue", "reasoning_content": "hm", **calls},
    ]


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("tools", [[], [{"type": "function", "function": {"name": "f", "parameters": {}}}]])
@pytest.mark.parametrize("name", [*TEMPLATES, "OWN_FEATURES"])
def test_a_template_writes_what_transformers_writes(name: str, tools: list[Any], *, prompt: bool) -> None:
    tokenizer = byte_level(TEMPLATES.get(name, OWN_FEATURES))
    messages = _rows(tools=bool(tools))
    expected = tokenizer.apply_chat_template(
        messages, tools=tools or None, tokenize=False, add_generation_prompt=prompt
    )
    assert Template(tokenizer).text(messages, tools, prompt=prompt) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{{ 'a' * 10**10 }}",
        "{{ nothing.at.all }}",
        "{{",
    ],
)
def test_a_hostile_template_is_refused_before_any_row(template: str) -> None:
    with pytest.raises(BadConfiguration, match="the model's chat template") as caught:
        ChatFormat(tiny_tokenizer(template=template))
    assert caught.value.field == "model"


@pytest.mark.parametrize("template", ["{% include 'x' %}", "{{ 'a' * 10**10 }}"])
def test_a_refused_template_is_named_with_its_model(job: Job, tmp_path: Path, template: str) -> None:
    model = save_tiny_model(tmp_path / "model", template=template)
    with pytest.raises(BadConfiguration, match=rf"^model {model}: the model's chat template"):
        ChatFormat(load_tokenizer(_at(model), job))


@pytest.mark.parametrize("template", [1, [1], [{"name": "default"}], {"default": 1}, "x" * (2**20 + 1)])
def test_a_template_that_is_no_text_is_refused(template: Any) -> None:
    with pytest.raises(BadConfiguration, match="correct it in the tokenizer's files"):
        Template(tiny_tokenizer(template=template))


def test_a_template_that_is_endless_for_one_row_is_refused_for_good() -> None:
    endless = "{% if messages[0].role == 'system' %}{{ 'a' * 10**10 }}{% endif %}" + chat_templates.CHATML
    tokenizer = byte_level(endless)
    row = colour_row("sky")
    system = row.model_copy(update={"turns": (row.turns[0].model_copy(update={"role": "system"}), *row.turns)})
    chat = ChatFormat(tokenizer)
    with pytest.raises(BadConfiguration, match="needs more than is allowed"):
        chat.render([row, system])


@pytest.mark.parametrize("place", ["pre_tokenizer", "normalizer"])
def test_a_tokenizers_exponential_expression_is_refused(place: str, capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = tiny_tokenizer()
    expression = Regex(r"(a+)+$")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(expression, "isolated"), pre_tokenizers.Whitespace()]
    )
    if place == "normalizer":
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace(expression, "b")
    with pytest.raises(BadConfiguration, match=r"the model's tokenizer cannot encode a text: .*retry-limit"):
        ChatFormat(tokenizer)
    capfd.readouterr()  # the library prints a traceback


def test_a_tokenizer_that_is_slow_for_the_texts_of_rows_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?=(.*)(.*)(.*)z)q"), "isolated")
    encode = tokenizer.backend_tokenizer.encode_batch_fast
    speed = Speed(lambda texts: [encoding.ids for encoding in encode(texts)], free_seconds=0.1)
    with pytest.raises(BadConfiguration, match=r"took .* s of processor time for 256 characters"):
        speed.encode([("q" * 25 + "b") * 500])
