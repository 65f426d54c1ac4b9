from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from contracts.options import EvaluationOptions, Metric
from contracts.report import DevReport, TestReport
from contracts.rows import Row, Turn
from evaluator_worker.programs import evaluate
from evaluator_worker.spec import Result, Spec
from infra.child.program import Job, run
from infra.errors import BadConfiguration, BadInput
from infra.models.model_inputs import ModelLocation
from tests.models import TEMPLATE, colour_rows, save_tiny_model, tiny_model, tiny_tokenizer, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def _spec(model: Path, metric: Metric = Metric.EXACT_MATCH, **options: object) -> Spec:
    given = {"max_new_tokens": 5, "bootstrap_samples": 100} | options
    return Spec(
        model=ModelLocation(kind="path", name=str(model)),
        metric=metric,
        options=EvaluationOptions.model_validate(given),
        seed=1,
    )


def _evaluate(folder: Path, spec: Spec, dev: list[Row], test: list[Row] | None = None) -> Result:
    write_rows(folder / "input" / "splits" / "dev.jsonl", dev)
    if test is not None:
        write_rows(folder / "input" / "splits" / "test.jsonl", test)
    return evaluate.main(spec, Job(folder))


def _predictions(folder: Path) -> dict[str, str]:
    lines = (folder / "out" / "dev_predictions.jsonl").read_text().splitlines()
    return {row["row_id"]: row["predicted"] for row in map(json.loads, lines)}


def _chat(row_id: str, question: str, answer: str) -> Row:
    turns = (Turn(role="user", content=question), Turn(role="assistant", content=answer))
    return Row(id=row_id, turns=turns, slice=answer or "none")


def _rows_of_many_lengths() -> list[Row]:
    words = ["sky", "grass", "snow", "coal", "blood", "lemon", "a", "b", "c", "what"]
    return [_chat(f"r{i}", " ".join(words[(i + k) % 10] for k in range(1 + 3 * i)), "a") for i in range(12)]


def _job_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def varied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answers depend on the prompt; with small random weights it would repeat the last token."""
    import torch

    tokenizer = tiny_tokenizer()
    network = tiny_model(len(tokenizer), seed=3)
    with torch.no_grad():
        for weights in network.model.layers.parameters():
            weights.mul_(20 if weights.ndim > 1 else 1)
    folder = tmp_path_factory.mktemp("varied")
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_answers_do_not_depend_on_the_other_rows_of_their_batch(varied_model: Path, tmp_path: Path) -> None:
    answers = []
    for batch_size in (1, 5, 12):
        folder = _job_folder(tmp_path, str(batch_size))
        _evaluate(folder, _spec(varied_model, batch_size=batch_size), _rows_of_many_lengths())
        answers.append(_predictions(folder))
    assert answers[0] == answers[1] == answers[2]
    assert len(set(answers[0].values())) > 3


def test_perplexity_equals_the_value_by_the_chain_rule(model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = ["sky is blue", "what colour is snow ? white", "coal"]
    rows = [Row(id=str(i), text=text) for i, text in enumerate(texts)]
    result = _evaluate(tmp_path, _spec(model, Metric.PERPLEXITY), rows)

    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    total, count = 0.0, 0
    for text in texts:
        ids = [*tokenizer(text).input_ids, tokenizer.eos_token_id]
        with torch.inference_mode():
            probabilities = network(torch.tensor([ids])).logits[0].softmax(-1)
        for position in range(1, len(ids)):
            total += math.log(probabilities[position - 1, ids[position]])
            count += 1
    assert result.metrics["dev_perplexity"] == pytest.approx(math.exp(-total / count), rel=1e-4)
    assert result.dev.value == pytest.approx(math.exp(total / count), rel=1e-4)


def test_perplexity_scores_only_the_tokens_of_the_answers(model: Path, tmp_path: Path) -> None:
    rows = [_chat("short", "a", "blue"), _chat("long", "what colour is sky a b c", "blue")]
    result = _evaluate(tmp_path, _spec(model, Metric.PERPLEXITY), rows)
    assert result.metrics["dev_tokens"] == 4  # the answer and the end token of both rows


def test_nothing_of_a_test_row_is_written_anywhere(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sealed = _chat("sealed-row-id", "what colour is zebra", "quagga").model_copy(update={"slice": "okapi"})
    spec = _spec(model)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    write_rows(tmp_path / "input" / "splits" / "dev.jsonl", colour_rows())
    write_rows(tmp_path / "input" / "splits" / "test.jsonl", [sealed])
    assert run("evaluate", tmp_path, evaluate) == 0  # type: ignore[arg-type]
    output = capfd.readouterr()
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file() and "input" not in path.parts]
    for secret in ("sealed-row-id", "zebra", "quagga", "okapi"):
        assert not any(secret in text for text in (*written, output.out, output.err))


def test_a_malformed_test_row_is_located_and_not_quoted(model: Path, tmp_path: Path) -> None:
    splits = tmp_path / "input" / "splits"
    write_rows(splits / "dev.jsonl", colour_rows())
    (splits / "test.jsonl").write_text('{"id": "secret", "colour": "quagga"}\n')
    with pytest.raises(BadInput, match=r"test\.jsonl:1 is not a row: colour: Extra inputs are not permitted$"):
        evaluate.main(_spec(model), Job(tmp_path))


def test_the_reports_are_valid_and_hold_the_scores_of_the_result(model: Path, tmp_path: Path) -> None:
    result = _evaluate(tmp_path, _spec(model), colour_rows(2), colour_rows())
    dev = DevReport.model_validate_json((tmp_path / "out" / "dev_report.json").read_bytes())
    test = TestReport.model_validate_json((tmp_path / "out" / "test_report.json").read_bytes())
    assert (dev.score, test.score) == (result.dev, result.test)
    assert set(dev.metrics) == {"exact_match", "token_f1", "rouge_l"}
    assert sum(part.rows for part in dev.slices) == 12


def test_rows_that_cannot_be_scored_are_counted_separately(model: Path, tmp_path: Path) -> None:
    rows = [*colour_rows(), _chat("no reference", "sky", ""), _chat("too long", "a " * 200, "b")]
    score = _evaluate(tmp_path, _spec(model), rows).dev
    assert (score.scored, score.unscored) == (6, 2)


def test_a_split_without_a_row_that_can_be_scored_is_bad_input(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no row of dev could be scored by exact_match: a row has no reference answer"):
        _evaluate(tmp_path, _spec(model), [Row(id="1", text="sky is blue")])


def test_a_row_without_a_finite_probability_is_unscored_and_not_a_zero(tmp_path: Path) -> None:
    import torch

    tokenizer = tiny_tokenizer()
    network = tiny_model(len(tokenizer))
    with torch.no_grad():
        network.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids("coal")] = math.nan
    network.config.tie_word_embeddings = False  # tied weights would put the NaN into the logits of every row
    network.lm_head.weight = torch.nn.Parameter(network.lm_head.weight.detach().nan_to_num())
    network.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [_chat("fine", "sky", "blue"), _chat("broken", "coal", "black")]
    score = _evaluate(tmp_path, _spec(tmp_path / "model", Metric.PERPLEXITY), rows).dev
    assert (score.scored, score.unscored) == (1, 1)
    assert score.value > 0


@pytest.mark.parametrize("metric", [Metric.EXACT_MATCH, Metric.PERPLEXITY])
def test_a_row_that_the_template_refuses_is_unscored(tmp_path: Path, metric: Metric) -> None:
    refusing = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
    model = save_tiny_model(tmp_path / "model", template=refusing + TEMPLATE)
    refused = Row(id="refused", turns=(Turn(role="system", content="sky"), *_chat("", "sky", "blue").turns))
    score = _evaluate(tmp_path, _spec(model, metric), [*colour_rows(), refused]).dev
    assert (score.scored, score.unscored) == (6, 1)


def test_answers_as_long_as_the_context_are_a_bad_option(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"max_new_tokens is 128, .* 128 positions") as caught:
        _evaluate(tmp_path, _spec(model, max_new_tokens=128), colour_rows())
    assert caught.value.field == "max_new_tokens"


def test_a_model_whose_sizes_are_in_its_text_config_is_scored(tmp_path: Path) -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    tokenizer = tiny_tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}
    config = Gemma3Config(text_config=text | small, vision_config={"image_size": 28, "patch_size": 14} | small)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [*colour_rows(), _chat("too long", "sky", "a " * 70)]
    score = _evaluate(tmp_path, _spec(tmp_path / "model", Metric.PERPLEXITY), rows).dev
    assert (score.scored, score.unscored) == (6, 1)


def test_a_limit_on_bad_cases_keeps_one_of_each_slice(model: Path, tmp_path: Path) -> None:
    rows = [_chat(f"{answer}{i}", "sky", answer) for answer in ("a", "b", "c") for i in range(9)]
    _evaluate(tmp_path, _spec(model, max_bad_cases=3), rows)
    report = DevReport.model_validate_json((tmp_path / "out" / "dev_report.json").read_bytes())
    assert len({case.slice for case in report.bad_cases}) == len(report.bad_cases)
