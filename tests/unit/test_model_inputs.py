from __future__ import annotations

from contracts.tasks import ModelSource
from infra.models.model_inputs import ModelLocation, model_inputs


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


def test_consent_to_run_code_is_passed_on_with_the_model() -> None:
    _, location = model_inputs(ModelSource(base="hub:org/name", trust_remote_code=True))
    assert location.trust_remote_code
