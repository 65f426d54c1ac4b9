"""Makes downloaded adapters loadable: names their base, and says in which order several of them are merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.download.layout import Layout
from cli.download.transfer import DifferentFiles
from contracts.files import ADAPTER_CONFIG, Folder

BASE = "base_model_name_or_path"
"""The field by which peft finds the base of an adapter."""
README = f"{Folder.ADAPTERS}/README.txt"
README_TEXT = """\
This model is a base and {count} adapters. Each adapter was trained on the base with all earlier adapters merged into
it, so no adapter alone is the model, not even the last one. Merge all of them into the base, in this order:

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained({base!r}, dtype="auto")
    for adapter in {adapters!r}:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.save_pretrained({merged!r})
    AutoTokenizer.from_pretrained({newest!r}).save_pretrained({merged!r})

Then {merged} is a complete model.
"""


def name_base(config: Path, downloaded: Path, base: Path, *, force: bool) -> None:
    """Write the `downloaded` configuration of an adapter to `config`, with the absolute path of its base.

    Raises DifferentFiles if `config` differs in another field and `force` is not set.
    """
    fields = json.loads(downloaded.read_bytes())
    if config.exists() and not force and _without_base(_read(config)) != _without_base(fields):
        downloaded.unlink()
        raise DifferentFiles([config])
    downloaded.write_text(json.dumps({**fields, BASE: str(base.resolve())}, indent=2), encoding="utf-8")
    downloaded.replace(config)


def base_of(folder: Path, layout: Layout) -> str | None:
    """The base that the first adapter names; None if it names none."""
    fields = _read(folder / layout.adapters[0] / ADAPTER_CONFIG)
    return fields.get(BASE) if isinstance(fields, dict) else None


def write_readme(folder: Path, layout: Layout) -> Path:
    """Write which adapters are merged in which order, and return the path."""
    adapters = [str((folder / adapter).resolve()) for adapter in layout.adapters]
    text = README_TEXT.format(
        count=len(adapters),
        base=base_of(folder, layout) or "the base model",
        adapters=adapters,
        newest=adapters[-1],
        merged=str((folder / "merged").resolve()),
    )
    path = folder / README
    path.write_text(text, encoding="utf-8")
    return path


def _read(config: Path) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return json.loads(config.read_bytes())
    except ValueError:
        return None


def _without_base(fields: Any) -> Any:  # noqa: ANN401  # any JSON value
    return {name: value for name, value in fields.items() if name != BASE} if isinstance(fields, dict) else fields
