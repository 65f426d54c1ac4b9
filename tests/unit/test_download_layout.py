"""Where downloaded files go: full models, one adapter, several adapters, and names that lead out of the folder."""

from __future__ import annotations

import pytest

from cli.download.layout import Layout, Only, UnsafeName, layout_of
from contracts.files import FileView

DATA = ("data/train.jsonl", "data/splits/dev.jsonl")
FULL = ("model/config.json", "model/model.safetensors")
ADAPTER = ("model/adapter_config.json", "model/adapter_model.safetensors")
BASE = ("base/config.json",)
EARLIER = ("adapters/1/adapter_config.json", "adapters/2/adapter_config.json")
REPORT = ("report/dev_report.json",)


def files(*names: str) -> list[FileView]:
    return [FileView(name=name, size=1, sha256="0" * 64) for name in names]


def moved(layout: Layout) -> dict[str, str]:
    """The files that are not written under their name in the list."""
    return {file.name: file.path for file in layout.files if file.name != file.path}


def test_a_full_model_keeps_its_folder() -> None:
    layout = layout_of(files(*DATA, *FULL, *REPORT))
    assert (moved(layout), layout.adapters, layout.base, layout.rewritten) == ({}, (), None, None)


def test_an_adapter_is_put_beside_its_base_and_names_it() -> None:
    layout = layout_of(files(*ADAPTER, *BASE))
    assert moved(layout) == {name: name.replace("model/", "adapter/", 1) for name in ADAPTER}
    assert (layout.adapters, layout.base, layout.rewritten) == (("adapter",), "base", "adapter/adapter_config.json")


def test_an_adapter_whose_base_is_not_stored_stays_as_the_trainer_wrote_it() -> None:
    layout = layout_of(files(*ADAPTER))
    assert (layout.base, layout.rewritten) == (None, None)


def test_several_adapters_are_numbered_in_the_order_in_which_they_are_merged() -> None:
    layout = layout_of(files(*ADAPTER, *BASE, *EARLIER))
    assert layout.adapters == ("adapters/1", "adapters/2", "adapters/3")
    assert moved(layout) == {name: name.replace("model/", "adapters/3/") for name in ADAPTER}
    assert layout.rewritten == "adapters/1/adapter_config.json"


def test_ten_adapters_stay_in_their_order() -> None:
    earlier = [f"adapters/{number}/adapter_config.json" for number in range(1, 12)]
    assert layout_of(files(*earlier, *ADAPTER)).adapters == tuple(f"adapters/{number}" for number in range(1, 13))


@pytest.mark.parametrize(
    ("only", "kept"),
    [(Only.DATA, DATA), (Only.REPORT, REPORT), (Only.MODEL, (*ADAPTER, *BASE, *EARLIER))],
)
def test_a_part_has_its_own_files_alone(only: Only, kept: tuple[str, ...]) -> None:
    everything = files(*DATA, *ADAPTER, *BASE, *EARLIER, *REPORT)
    assert sorted(file.name for file in layout_of(everything, only).files) == sorted(kept)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "data/../../x", "data\\..\\x", "data//x", "", "model/..", "."])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(UnsafeName):
        layout_of(files(*ADAPTER, name))
