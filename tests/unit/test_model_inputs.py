from __future__ import annotations

import pytest

from contracts.options import OptimizationOptions
from contracts.tasks import ModelSource
from infra.models.model_inputs import ModelLocation, model_inputs, with_hub_code
from infra.row_check import CheckSpec

OPTIONS = OptimizationOptions()


def test_a_model_on_disk_needs_no_download() -> None:
    inputs, location = model_inputs(ModelSource(base="path:/models/qwen"))
    assert (inputs, location) == ({}, ModelLocation(kind="path", name="/models/qwen"))


def test_an_artifact_is_downloaded_as_the_input_base() -> None:
    inputs, location = model_inputs(ModelSource(base="artifact:models/t/1/a1"))
    assert (inputs, location.kind) == ({"base": "models/t/1/a1"}, "artifact")


def test_adapters_keep_their_order() -> None:
    inputs, location = model_inputs(ModelSource(base="hub:org/name", adapters=("models/x", "models/y")))
    assert [inputs[name] for name in location.adapters] == ["models/x", "models/y"]


def test_a_hub_id_keeps_its_slash() -> None:
    _, location = model_inputs(ModelSource(base="hub:org/name"))
    assert location.name == "org/name"


@pytest.mark.parametrize("kind", ["path", "hub", "artifact"])
def test_only_code_of_the_hub_may_be_allowed(kind: str) -> None:
    spec = with_hub_code(CheckSpec(datasets={}, options=OPTIONS, seed=1, model=ModelLocation(kind=kind, name="x")))
    assert spec.model is not None
    assert spec.model.trust_remote_code is (kind == "hub")


def test_a_spec_without_a_model_needs_no_permission() -> None:
    spec = CheckSpec(datasets={}, options=OPTIONS, seed=1)
    assert with_hub_code(spec) == spec
