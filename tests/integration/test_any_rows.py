"""No rows, however odd, end the programs of training and evaluation otherwise than with a result or a typed error."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.options import EvaluationOptions, Hyperparameters, Metric
from contracts.rows import Row, ToolCall, Turn
from evaluator_worker.programs import evaluate
from evaluator_worker.spec import Spec
from infra.child.program import Job
from infra.errors import BadConfiguration, BadInput
from infra.models.model_inputs import ModelLocation
from tests import chat_templates as templates
from tests.models import tiny_model, write_rows
from tests.tokenizers import CONTROL_TOKENS, byte_level, prefix_space
from trainer_worker.programs import train
from trainer_worker.spec import TrainSpec

PIECES = st.sampled_from([*CONTROL_TOKENS, "<think>", "</think>", "\0", "\r\n", "\u200d", "दिन", "👍", "x" * 300, "{{"])
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=4).map("".join)
ARGUMENTS = st.sampled_from(["{}", "", "null", "[1]", '{"a": "<|im_end|>"}', "{broken", '{"a": 1e999}'])
CALLS = st.builds(ToolCall, name=st.sampled_from(["f", "<|im_end|>", ""]), arguments=ARGUMENTS)
TURNS = st.builds(
    Turn,
    role=st.sampled_from(["system", "user", "user", "assistant", "assistant", "tool"]),
    content=TEXTS,
    reasoning=st.sampled_from(["", "", "", "why"]),
    tool_calls=st.sampled_from([0, 0, 0, 1]).flatmap(lambda n: st.tuples(*[CALLS] * n)),
    learn=st.booleans(),
)
TOOLS = st.sampled_from([(), (), ({"type": "function", "function": {"name": "f"}},), ({"no": "name"},)])
CONVERSATIONS = st.builds(Row, id=st.just("c"), turns=st.lists(TURNS, max_size=5).map(tuple), tools=TOOLS)
ROWS = st.lists(st.one_of(CONVERSATIONS, st.builds(Row, id=st.just("t"), text=TEXTS)), min_size=1, max_size=6)
ORDINARY = Row(id="o", turns=(Turn(role="user", content="the"), Turn(role="assistant", content="kettle")))


@pytest.fixture(scope="module", params=["chatml", "alternating", "tools", "thinking with spaces", "no template"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    made: dict[str, Any] = {
        "chatml": lambda: byte_level(templates.CHATML),
        "alternating": lambda: byte_level(templates.ALTERNATING),
        "tools": lambda: byte_level(templates.TOOLS),
        "thinking with spaces": lambda: prefix_space(templates.BEGUN),
        "no template": byte_level,
    }
    tokenizer = made[request.param]()
    folder = tmp_path_factory.mktemp("model")
    tiny_model(len(tokenizer), hidden=16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("stage", ["sft", "pt"])
@given(rows=ROWS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_training_ends_with_a_model_or_a_typed_error(model: Path, stage: str, rows: list[Row]) -> None:
    options = {"stage": stage, "method": "full", "max_steps": 1, "tokens_per_batch": 256}
    location = ModelLocation(kind="path", name=str(model))
    spec = TrainSpec(model=location, hyperparameters=Hyperparameters.model_validate(options), seed=1)
    with _job([*rows, *[ORDINARY] * len(rows)]) as job, contextlib.suppress(BadInput, BadConfiguration):
        assert train.main(spec, job).steps == 1


@pytest.mark.parametrize("metric", [Metric.TOKEN_F1, Metric.PERPLEXITY])
@given(rows=ROWS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_evaluation_scores_or_counts_every_row(model: Path, metric: Metric, rows: list[Row]) -> None:
    options = EvaluationOptions(bootstrap_samples=100, max_new_tokens=8)
    spec = Spec(model=ModelLocation(kind="path", name=str(model)), metric=metric, options=options, seed=1)
    with _job([*rows, ORDINARY]) as job:
        score = evaluate.main(spec, job).dev
    assert score.scored + score.unscored == len(rows) + 1


@contextlib.contextmanager
def _job(rows: list[Row]) -> Any:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        write_rows(Path(folder) / "input" / "rows" / "train.jsonl", rows)
        write_rows(Path(folder) / "input" / "splits" / "dev.jsonl", rows)
        yield Job(Path(folder))
