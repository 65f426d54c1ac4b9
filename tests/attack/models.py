"""Model folders that should never run, hang or read anything outside, as `check` loads them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.attack.target import Target, require
from tests.models import save_tiny_model

ANSWER = 60.0
"""Seconds within which a check of rows with any model ends."""
TEMPLATES = (
    "{% for a in range(10**9) %}{% for b in range(10**9) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 10**10 }}",
    "{{ 10 ** 10 ** 9 }}",
    "{{ messages[0].content.center(10**11) }}",
    "{% include 'x' %}",
    "{{ messages.__class__.__mro__ }}",
    "{% set a = namespace(x='a') %}{% for i in range(60) %}{% set a.x = a.x ~ a.x %}{% endfor %}{{ a.x }}",
)
CODE = "import pathlib; pathlib.Path({marker!r}).touch()\nclass Evil: pass\n"


async def templates_without_an_end(target: Target) -> int:
    """Chat templates that loop, grow or look for files and classes."""
    for number, template in enumerate(TEMPLATES):
        await _is_refused(target, f"template-{number}", lambda folder, text=template: _set_template(folder, text))
    return len(TEMPLATES)


async def files_that_are_no_files(target: Target) -> int:
    """FIFOs, devices and links in the place of configurations and tokenizers."""
    names = ("config.json", "tokenizer.json", "tokenizer_config.json")
    for name in names:
        await _is_refused(target, f"fifo-{name}", lambda folder, name=name: _replace(folder / name, os.mkfifo))
        await _is_refused(
            target,
            f"zero-{name}",
            lambda folder, name=name: _replace(folder / name, lambda p: p.symlink_to("/dev/zero")),
        )
    return 2 * len(names)


async def folders_with_code(target: Target) -> int:
    """A configuration and a tokenizer that name Python files of the folder; none of it may run."""
    marker = target.folder / "code-ran"

    def add_code(folder: Path) -> None:
        (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
        for name, classes in (("config.json", ("AutoConfig",)), ("tokenizer_config.json", ("AutoTokenizer",))):
            document = json.loads((folder / name).read_text())
            document["auto_map"] = dict.fromkeys((*classes, "AutoModelForCausalLM"), "evil.Evil")
            document["model_type"] = document["tokenizer_class"] = "evil"
            (folder / name).write_text(json.dumps({**document, "trust_remote_code": True}))

    await _check(target, _model(target, "code", add_code))
    require(not marker.exists(), "the code of a model folder ran")
    return 1


async def names_that_are_no_names(target: Target) -> int:
    """Names of models that lead elsewhere."""
    names = ("./model", "../model", "../..", "a/..", "-/-", "file:///etc/passwd", "hub:a/b", "a--b/c", "x" * 990 + "/y")
    body = {"taskName": "t", "datasetId": target.dataset, "userId": 1}
    async with target.client() as client:
        for name in names:
            answer = await client.post("/api/tasks/standard", json={**body, "modelName": name})
            require(answer.status_code == 422, f"modelName {name!r} was answered {answer.status_code}")
    return len(names)


async def _is_refused(target: Target, name: str, spoil: Callable[[Path], None]) -> None:
    problem = await _check(target, _model(target, name, spoil))
    require(problem, f"a check with the model {name} found no problem")


async def _check(target: Target, model: Path) -> str:
    """The problem that a check of the dataset with this model reports."""
    async with asyncio.timeout(ANSWER), target.client(timeout=ANSWER) as client:
        answer = await client.post(f"/api/datasets/{target.dataset}/check", json={"modelName": str(model)})
    require(answer.status_code < 500, f"a check was answered {answer.status_code}: {answer.text[:300]}")
    return str(answer.json().get("problem") or answer.json().get("detail") or "")


def _model(target: Target, name: str, spoil: Callable[[Path], None]) -> Path:
    base = target.folder / "models" / "base"
    if not base.exists():
        save_tiny_model(base)
    folder = base.with_name(name)
    shutil.copytree(base, folder)
    spoil(folder)
    return folder


def _set_template(folder: Path, template: str) -> None:
    for path in folder.glob("chat_template*"):
        path.unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)
