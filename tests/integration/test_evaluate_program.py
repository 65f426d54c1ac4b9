from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken

from contracts.options import EvaluationOptions, Hyperparameters, Metric
from contracts.report import DevReport, TestReport
from contracts.rows import Row, Source, ToolCall, Turn
from evaluator_worker.notices import limit_notices
from evaluator_worker.programs import evaluate, generation
from evaluator_worker.programs.generation import TokenReports
from evaluator_worker.row_results import RowResult, RowResults
from evaluator_worker.spec import Result, Spec
from infra.child.program import Job, Stopped, run
from infra.errors import BadConfiguration, BadInput
from infra.models.model_inputs import ModelLocation
from tests.models import COLOURS, TEMPLATE, colour_rows, save_tiny_model, tiny_model, tiny_tokenizer, write_rows
from trainer_worker.programs import train
from trainer_worker.spec import TrainSpec


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
    assert set(dev.metrics) == {"exact_match", "token_f1", "rouge_l", "cut_answers"}
    assert sum(part.rows for part in dev.slices) == 12


def test_rows_that_cannot_be_scored_are_counted_separately(model: Path, tmp_path: Path) -> None:
    rows = [*colour_rows(), _chat("no reference", "sky", ""), _chat("too long", "a " * 200, "b")]
    score = _evaluate(tmp_path, _spec(model), rows).dev
    assert (score.scored, score.unscored) == (6, 2)


def test_a_split_without_a_row_that_can_be_scored_is_bad_input(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match="no row of dev could be scored by exact_match; reasons: it has no reference answer"
    ):
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


THINKING = (
    "{% for m in messages %}<|{{ m.role }}|> "
    "{% if loop.last and m.role == 'assistant' %}<think> {{ m.reasoning_content or '' }} </think> {% endif %}"
    "{{ m.content }} <|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
"""As Qwen 3: an empty block of reasoning before the last answer, which the generation prompt lacks."""


END_OF_THOUGHT = AddedToken("</think>", special=True)


def _overfitted(
    folder: Path,
    rows: list[Row],
    template: str = TEMPLATE,
    added: Sequence[AddedToken] = (),
    words: Sequence[str] = ("<", ">", "</", "think"),
) -> Path:
    """A model that was trained on the rows until it knows them by heart."""
    import torch

    torch.set_num_threads(1)
    tokenizer = tiny_tokenizer(template=template, words=tuple(words))
    tokenizer.add_tokens(list(added), special_tokens=any(token.special for token in added))
    base = folder / "base"
    tiny_model(len(tokenizer)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    options = {"method": "full", "tokens_per_batch": 256, "max_length": 128, "max_steps": 200, "learning_rate": 5e-3}
    hyper = Hyperparameters.model_validate(options)
    spec = TrainSpec(model=ModelLocation(kind="path", name=str(base)), hyperparameters=hyper, seed=1)
    write_rows(folder / "job" / "input" / "rows" / "train.jsonl", rows)
    train.main(spec, Job(folder / "job"))
    return folder / "job" / "out"


def _notices(result: Result) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(notice.rule, notice.rows, notice.places) for notice in result.notices]


def test_a_model_that_thinks_nothing_before_its_right_answers_scores_1(tmp_path: Path) -> None:
    model = _overfitted(tmp_path, colour_rows(), THINKING)
    assert _evaluate(tmp_path, _spec(model, max_new_tokens=None), colour_rows()).dev.value == 1.0


@pytest.mark.parametrize(
    "marks",
    [(), (AddedToken("<think>"), AddedToken("</think>")), (AddedToken("<think>", special=True), END_OF_THOUGHT)],
    ids=["words", "tokens", "special tokens"],
)
def test_reasoning_before_an_answer_is_not_compared(tmp_path: Path, marks: tuple[AddedToken, ...]) -> None:
    trained = [
        row.model_copy(update={"turns": (row.turns[0], row.turns[1].model_copy(update={"reasoning": "a b c"}))})
        for row in colour_rows()[:2]
    ]
    model = _overfitted(tmp_path, trained, THINKING, marks)
    assert _evaluate(tmp_path, _spec(model, max_new_tokens=None), trained).dev.value == 1.0


LONG = _chat("long", "what colour", " ".join(random.Random(1).choices([*COLOURS, *COLOURS.values()], k=72)))


def test_the_default_limit_follows_the_references(tmp_path: Path) -> None:
    model = _overfitted(tmp_path, [LONG])
    result = _evaluate(tmp_path, _spec(model, max_new_tokens=None), [LONG])
    assert (result.dev.value, result.metrics["dev_cut_answers"], result.notices) == (1.0, 0, ())


def test_the_default_limit_follows_the_longest_reference_of_either_split(tmp_path: Path) -> None:
    model = _overfitted(tmp_path, [LONG])
    result = _evaluate(tmp_path, _spec(model, max_new_tokens=None), [_chat("short", "what colour", "a")], [LONG])
    assert result.test is not None and result.test.value == 1.0


def test_answers_that_are_cut_and_longer_references_are_counted(tmp_path: Path) -> None:
    model = _overfitted(tmp_path, [LONG])
    result = _evaluate(tmp_path, _spec(model, max_new_tokens=20), [LONG], [LONG])
    assert (result.metrics["dev_cut_answers"], result.metrics["test_cut_answers"]) == (1, 1)
    assert _notices(result) == [
        ("answers_cut", 1, ("long",)),
        ("references_too_long", 1, ("long",)),
        ("answers_cut", 1, ()),
        ("references_too_long", 1, ()),
    ]
    assert result.notices[0].text == "dev: 1 of 1 answers were cut at maxNewTokens (20); raise maxNewTokens"
    (line,) = (tmp_path / "out" / "dev_predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["cut"] is True


TOO_LONG = [_chat(f"too long {i}", "sky", "a " * 800) for i in range(4)]


def test_a_reference_longer_than_the_context_is_not_scored(model: Path, tmp_path: Path) -> None:
    result = _evaluate(tmp_path, _spec(model, max_new_tokens=None), [*colour_rows(), *TOO_LONG])
    assert (result.dev.scored, result.dev.unscored) == (6, 4)
    assert "references_too_long" not in {notice.rule for notice in result.notices}


def test_a_reference_longer_than_a_chosen_limit_is_scored_and_reported(model: Path, tmp_path: Path) -> None:
    result = _evaluate(tmp_path, _spec(model, max_new_tokens=5), [*colour_rows(), *TOO_LONG])
    assert (result.dev.scored, result.dev.unscored) == (10, 0)
    (longer,) = [notice.text for notice in result.notices if notice.rule == "references_too_long"]
    assert longer.endswith("longer than maxNewTokens (5), so their answers are cut; raise maxNewTokens")


def test_references_longer_than_an_automatic_limit_are_told_to_set_one() -> None:
    row = RowResult(_chat("long", "sky", "a"), 0.0, metrics={}, cut=True, reference=9000)
    *_, longer = limit_notices("dev", RowResults(Metric.EXACT_MATCH, (row,)), 8192, chosen=False)
    assert longer.text.endswith("longer than the automatic limit (8192), so their answers are cut; set maxNewTokens")


def test_an_answer_near_the_end_of_the_context_has_the_room_that_is_left(tmp_path: Path) -> None:
    rows = [_chat("long prompt", "a " * 112, "blue"), *colour_rows(), LONG]
    model = _overfitted(tmp_path, rows)
    result = _evaluate(tmp_path, _spec(model, max_new_tokens=None), rows)
    assert (result.dev.scored, result.dev.value) == (8, 1.0)


def test_rows_that_are_not_scored_are_reported_with_their_places(model: Path, tmp_path: Path) -> None:
    placed = _chat("x", "a " * 200, "b").model_copy(update={"source": Source(file="dev/rows.jsonl", line=3)})
    result = _evaluate(tmp_path, _spec(model), [*colour_rows(), placed], [*colour_rows(), placed])
    notices = [notice for notice in result.notices if notice.rule == "unscored"]
    assert [(notice.rows, notice.places) for notice in notices] == [(1, ("dev/rows.jsonl:3",)), (1, ())]
    assert notices[0].text == (
        "dev: not scored, because with its prompt it is longer than the model's context of 128 tokens "
        "(shorten it, or use a model with a longer one)"
    )


def test_the_templates_words_about_a_sealed_row_are_not_written(tmp_path: Path) -> None:
    quoting = "{% for m in messages %}{% if m.name %}{{ raise_exception(m.name) }}{% endif %}{% endfor %}" + TEMPLATE
    model = save_tiny_model(tmp_path / "model", template=quoting)
    named = _chat("x", "sky", "blue")
    sealed = named.model_copy(update={"turns": (named.turns[0].model_copy(update={"name": "quagga"}), named.turns[1])})
    result = _evaluate(tmp_path, _spec(model), colour_rows(), [*colour_rows(), sealed])
    assert "quagga" not in result.model_dump_json()
    assert ("unscored", 1, ()) in _notices(result)


@pytest.mark.parametrize("metric", [Metric.EXACT_MATCH, Metric.PERPLEXITY])
def test_a_token_beyond_the_embeddings_leaves_a_row_unscored(tmp_path: Path, metric: Metric) -> None:
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer.convert_tokens_to_ids("lemon")).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [_chat("known", "a", "b"), _chat("unknown", "lemon", "b")]
    score = _evaluate(tmp_path, _spec(tmp_path / "model", metric), rows).dev
    assert (score.scored, score.unscored) == (1, 1)


def test_a_conversation_of_one_answer_without_a_prompt_is_unscored(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    model = save_tiny_model(tmp_path / "model", template=template)
    alone = Row(id="alone", turns=(Turn(role="assistant", content="blue"),))
    assert _evaluate(tmp_path, _spec(model), [*colour_rows(), alone]).dev.unscored == 1


def test_an_answer_that_calls_a_tool_is_scored_by_perplexity_only(tmp_path: Path) -> None:
    calling = "{% for m in messages %}<|{{ m.role }}|> {{ m.content }}"
    calling += "{% for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}"
    calling += " <|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    model = save_tiny_model(tmp_path / "model", template=calling)
    answer = Turn(role="assistant", content="", tool_calls=(ToolCall(name="sky", arguments="{}"),))
    rows = [*colour_rows(), Row(id="call", turns=(Turn(role="user", content="sky"), answer))]
    scores = [_evaluate(tmp_path, _spec(model, metric), rows).dev for metric in (Metric.EXACT_MATCH, Metric.PERPLEXITY)]
    assert [score.unscored for score in scores] == [1, 0]


def test_an_answer_that_is_not_to_be_learnt_is_no_reference(model: Path, tmp_path: Path) -> None:
    flagged = _chat("x", "sky", "blue").turns[1].model_copy(update={"learn": False})
    row = Row(id="flagged", turns=(*_chat("x", "sky", "blue").turns, Turn(role="user", content="snow"), flagged))
    assert _evaluate(tmp_path, _spec(model), [*colour_rows(), row]).dev.unscored == 1


def test_a_text_longer_than_the_context_is_scored_in_part_and_reported(model: Path, tmp_path: Path) -> None:
    rows = [Row(id="long", text="a b c " * 50), Row(id="short", text="a b c")]
    result = _evaluate(tmp_path, _spec(model, Metric.PERPLEXITY), rows)
    assert _notices(result) == [("shortened", 1, ("long",))]


def _tagged(label: str, reason: str) -> str:
    return f"<label> {label} </label> <reason> {reason} </reason>"


def test_an_answer_in_tags_of_its_own_is_compared_as_a_whole(tmp_path: Path) -> None:
    words = ("<", ">", "</", "label", "reason")
    model = _overfitted(tmp_path, [_chat("r", "sky", _tagged("red", "a"))], words=words)
    result = _evaluate(tmp_path, _spec(model, max_new_tokens=None), [_chat("r", "sky", _tagged("blue", "a"))])
    assert (result.dev.value, _predictions(tmp_path)["r"].split()[:4]) == (0.0, ["<", "label", ">", "red"])


BEGUN = THINKING.replace("<|assistant|> {% endif %}", "<|assistant|> <think> {% endif %}")


@pytest.mark.parametrize("marks", [(), (AddedToken("<think>", special=True), END_OF_THOUGHT)], ids=["words", "tokens"])
def test_reasoning_that_the_prompt_begins_is_not_compared(tmp_path: Path, marks: tuple[AddedToken, ...]) -> None:
    turns = [row.turns for row in colour_rows()[:2]]
    trained = [
        Row(id=str(i), turns=(question, answer.model_copy(update={"reasoning": "a b c"})))
        for i, (question, answer) in enumerate(turns)
    ]
    model = _overfitted(tmp_path, trained, BEGUN, marks)
    asked = [
        row.model_copy(update={"turns": (row.turns[0], row.turns[1].model_copy(update={"reasoning": "c"}))})
        for row in trained
    ]
    assert _evaluate(tmp_path, _spec(model, max_new_tokens=None), asked).dev.value == 1.0


def test_the_tokens_of_a_batch_that_takes_long_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generation, "LONG_BATCH", 0.0)
    job = Job(tmp_path)
    reports = TokenReports(job, "answering dev")
    for length in (5, 6):
        complete = reports(torch.zeros(2, length, dtype=torch.long), torch.zeros(2, 9))
        assert complete.tolist() == [False, False]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["stage"], line["done"]) for line in lines] == [
        ("answering dev, tokens of a batch", 5),
        ("answering dev, tokens of a batch", 6),
    ]


def test_a_stop_ends_the_generation_within_a_batch(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.stop.set()
    with pytest.raises(Stopped):
        TokenReports(job, "answering dev")(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 9))
