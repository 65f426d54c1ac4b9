from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from contracts.commands import TrainModel
from contracts.options import Hyperparameters, Method
from contracts.tasks import AttemptKey, DatasetRef, ModelSource, Phase
from infra.worker.plan import Finished
from trainer_worker.spec import TrainSpec
from trainer_worker.worker import conclude, plan

KEY = AttemptKey(task_id=UUID(int=1), iteration=2, phase=Phase.TRAIN, attempt=1)
BASE = ModelSource(base="artifact:models/base", adapters=("models/first",))


def _command(method: Method = Method.LORA, **more: object) -> TrainModel:
    return TrainModel(
        key=KEY,
        output="models/out",
        seed=5,
        model=BASE,
        dataset=DatasetRef(dataset_id="d", prefix="optimized/d"),
        hyperparameters=Hyperparameters(method=method),
        **more,
    )


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"steps": 12, "metrics": {"loss": 0.5}}))
    return Finished(key=KEY, claim_id=UUID(int=2), worker_id="w", seconds=3.0, gpu_seconds=0.0, result=result)


def test_only_the_training_rows_of_the_dataset_are_downloaded() -> None:
    assert plan(_command()).inputs["rows"] == "optimized/d#train.jsonl"


def test_every_layer_of_the_model_is_downloaded() -> None:
    inputs = plan(_command()).inputs
    assert (inputs["base"], inputs["adapter-0"]) == ("models/base", "models/first")


def test_a_checkpoint_is_downloaded_if_the_command_names_one() -> None:
    assert plan(_command(resume_from="models/c")).inputs["checkpoint"] == "models/c"


def test_the_program_gets_no_checkpoint_if_the_command_names_none() -> None:
    spec = plan(_command()).spec
    assert isinstance(spec, TrainSpec) and not spec.resume_from


def test_only_the_checkpoint_is_an_optional_download() -> None:
    planned = plan(_command(resume_from="models/c"))
    assert planned.inputs.keys() & planned.optional == {"checkpoint"}


def test_a_new_adapter_includes_those_below_it_and_replaces_them(finished: Finished) -> None:
    event = conclude(_command(Method.LORA), finished)
    assert event.model == ModelSource(base="artifact:models/base", adapters=("models/out",))


def test_a_new_adapter_is_the_base_itself_if_it_is_complete_below_the_adapter_that_was_given(
    finished: Finished,
) -> None:
    finished.result.write_text(json.dumps({"steps": 12, "metrics": {}, "base": "hub:org/name"}))
    assert conclude(_command(Method.LORA), finished).model == ModelSource(base="artifact:models/out")


def test_a_fully_trained_model_is_a_new_base(finished: Finished) -> None:
    assert conclude(_command(Method.FULL), finished).model == ModelSource(base="artifact:models/out")


def test_the_event_carries_what_the_program_measured(finished: Finished) -> None:
    event = conclude(_command(), finished)
    assert (event.steps, event.metrics) == (12, {"loss": 0.5})


def test_the_service_starts_without_torch() -> None:
    code = (
        "import sys, trainer_worker.worker; print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
