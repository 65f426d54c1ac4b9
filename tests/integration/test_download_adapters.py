"""Downloaded adapters are loaded by peft, from a real gateway and a real S3 server."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from cli.main import app
from cli.services.http_server import serve
from contracts.tasks import ModelSource
from infra.artifacts import upload
from infra.objects import ObjectStore
from tests.build import completed
from tests.conformance.stores import change_of
from tests.gateway import Gateway
from tests.integration.test_gateway_files import claimed, complete_phase
from tests.models import save_tiny_model

TOKENS = torch.tensor([[6, 7, 8, 9]])
BASE = "models/base"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base"))


@pytest_asyncio.fixture
async def url(storing_gateway: Gateway) -> AsyncIterator[str]:
    """The address of the gateway on a real port."""
    async with serve(storing_gateway.http._transport.app, "127.0.0.1", 0, lambda: None) as address:  # type: ignore[attr-defined]
        yield address


def save_adapter(model: torch.nn.Module, folder: Path, seed: int) -> torch.nn.Module:
    """Save an adapter with random weights for `model`; return the model with the adapter merged into it."""
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"]))
    adapted.peft_config["default"].base_model_name_or_path = f"artifact:{BASE}"
    adapted.save_pretrained(folder, save_embedding_layers=False)
    merged: torch.nn.Module = adapted.merge_and_unload()
    return merged


async def task_with(gateway: Gateway, objects: ObjectStore, model: ModelSource, folders: dict[str, Path]) -> UUID:
    """A task whose first iteration has trained this model; `folders` are its artifacts."""
    for prefix, folder in folders.items():
        await upload(objects, prefix, folder)
    task_id = await gateway.create(autoStart=True)
    await complete_phase(gateway, task_id)
    task = await claimed(gateway, task_id)
    event = completed(task).model_copy(update={"model": model})
    await gateway.store.apply([change_of(task, event)])  # as an earlier version of control did
    return task_id


async def download(url: str, target: str, folder: Path) -> Result:
    arguments = ["download", target, "--only", "model", "--to", str(folder), "--url", url]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 0, result.stderr
    return result


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = model(TOKENS).logits
    return answer


async def test_an_adapter_on_a_stored_base_is_loaded_without_editing_it(
    storing_gateway: Gateway, objects: ObjectStore, url: str, base: Path, tmp_path: Path
) -> None:
    merged = save_adapter(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter", 1)
    model = ModelSource(base=f"artifact:{BASE}", adapters=("models/1",))
    folders = {BASE: base, "models/1": tmp_path / "adapter"}
    task_id = await task_with(storing_gateway, objects, model, folders)
    await download(url, f"task:{task_id}/1", tmp_path / "to")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "to/adapter")
    assert torch.allclose(logits(loaded), logits(merged), atol=1e-5)


async def test_the_recipe_beside_several_adapters_gives_the_model(
    storing_gateway: Gateway, objects: ObjectStore, url: str, base: Path, tmp_path: Path
) -> None:
    merged = save_adapter(AutoModelForCausalLM.from_pretrained(base), tmp_path / "first", 1)
    merged = save_adapter(merged, tmp_path / "second", 2)
    save_tiny_model(tmp_path / "second-with-tokenizer")
    for file in (tmp_path / "second-with-tokenizer").glob("token*"):
        file.rename(tmp_path / "second" / file.name)
    model = ModelSource(base=f"artifact:{BASE}", adapters=("models/1", "models/2"))
    folders = {BASE: base, "models/1": tmp_path / "first", "models/2": tmp_path / "second"}
    task_id = await task_with(storing_gateway, objects, model, folders)
    await download(url, f"task:{task_id}/1", tmp_path / "to")
    readme = (tmp_path / "to/adapters/README.txt").read_text().splitlines()
    exec(textwrap.dedent("\n".join(line for line in readme if line.startswith("    "))), {})
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "to/merged")
    assert torch.allclose(logits(loaded), logits(merged), atol=1e-5)
    alone = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "second")
    assert not torch.allclose(logits(alone), logits(merged), atol=1e-3)
