from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from contracts.options import Hyperparameters, Stage
from contracts.rows import Row, Source, Turn
from infra.child.program import Job, Stopped
from infra.errors import BadConfiguration, BadInput
from infra.models.chat_format import ChatFormat
from infra.models.language_model import load
from infra.models.model_inputs import ModelLocation
from tests.models import TEMPLATE, colour_row, colour_rows, save_tiny_model, tiny_model, tiny_tokenizer, write_rows
from trainer_worker.programs import train
from trainer_worker.programs.examples import make_examples
from trainer_worker.programs.training import Training
from trainer_worker.spec import TrainResult, TrainSpec

SMALL = {"tokens_per_batch": 96, "max_length": 48, "epochs": 5, "learning_rate": 5e-3, "checkpoint_every": 4}
LORA = {"method": "lora", "lora_rank": 4, "lora_dropout": 0.1}
FULL = {"method": "full"}
TEXTS = [Row(id=str(i), text=f"what colour is {thing} ?") for i, thing in enumerate(["sky", "grass", "snow"] * 4)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Use one thread, because more are slower on a model this small, above all while other tests run."""
    torch.set_num_threads(1)


def _spec(model: Path, *, adapters: tuple[str, ...] = (), **options: object) -> TrainSpec:
    return TrainSpec(
        model=ModelLocation(kind="path", name=str(model), adapters=adapters),
        hyperparameters=Hyperparameters.model_validate(SMALL | options),
        seed=3,
    )


def _job(folder: Path, rows: list[Row] | None = None) -> Job:
    write_rows(folder / "input" / "rows" / "train.jsonl", colour_rows(4) if rows is None else rows)
    return Job(folder)


def _train(folder: Path, spec: TrainSpec, rows: list[Row] | None = None) -> TrainResult:
    return train.main(spec, _job(folder, rows))


def _curve(folder: Path) -> list[float]:
    return [loss for _, loss in json.loads((folder / "out" / "training.json").read_text())["losses"]]


def _stop_at(monkeypatch: pytest.MonkeyPatch, job: Job, step: int) -> None:
    """Request a stop of the job during its step number `step`."""
    advance = Training.advance

    def then_stop(training: Training) -> None:
        advance(training)
        if training.step == step:
            job.stop.set()

    monkeypatch.setattr(Training, "advance", then_stop)


@pytest.mark.parametrize("options", [FULL, LORA], ids=["full", "lora"])
def test_training_lowers_the_loss(tmp_path: Path, model: Path, options: dict[str, object]) -> None:
    _train(tmp_path, _spec(model, **options))
    curve = _curve(tmp_path)
    assert curve[-1] < 0.9 * curve[0]


def test_plain_text_can_be_learnt(tmp_path: Path, model: Path) -> None:
    _train(tmp_path, _spec(model, stage="pt", **FULL), TEXTS)
    curve = _curve(tmp_path)
    assert curve[-1] < 0.9 * curve[0]


def test_a_fully_trained_model_answers_what_it_learnt(tmp_path: Path, model: Path) -> None:
    _train(tmp_path, _spec(model, epochs=40, **FULL))
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer("<|user|> what colour is coal ? <|end|> <|assistant|>", return_tensors="pt").input_ids
    answer = trained.generate(prompt, max_new_tokens=8, do_sample=False)[0, prompt.shape[1] :]
    assert tokenizer.decode(answer) == "coal is black <|end|>"


def test_an_adapter_loaded_on_its_base_gives_the_logits_of_the_merged_model(tmp_path: Path, model: Path) -> None:
    _train(tmp_path / "job", _spec(model, **LORA))
    (tmp_path / "later" / "input").mkdir(parents=True)
    (tmp_path / "job" / "out").rename(tmp_path / "later" / "input" / "adapter-0")
    job = Job(tmp_path / "later")
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), job.input("adapter-0")).eval()
    merged, _ = load(ModelLocation(kind="path", name=str(model), adapters=("adapter-0",)), job)
    ids = torch.tensor([[3, 6, 7, 8, 9]])
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-5)


def test_the_output_holds_no_pickle(tmp_path: Path, model: Path) -> None:
    _train(tmp_path, _spec(model, **LORA))
    suffixes = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert suffixes == {".safetensors", ".json", ".jinja"}


def test_the_template_that_was_trained_on_is_saved(tmp_path: Path) -> None:
    bare = save_tiny_model(tmp_path / "bare", template=None)
    _train(tmp_path / "job", _spec(bare, **FULL))
    assert AutoTokenizer.from_pretrained(tmp_path / "job" / "out").chat_template


@pytest.mark.parametrize("options", [FULL, LORA], ids=["full", "lora with dropout"])
def test_a_stopped_training_continues_as_if_it_had_never_stopped(
    tmp_path: Path, model: Path, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _spec(model, **options)
    whole = _train(tmp_path / "whole", spec)
    job = _job(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        _stop_at(patch, job, whole.steps // 2 + 1)
        with pytest.raises(Stopped):
            train.main(spec, job)
    later = _job(tmp_path / "later")
    (checkpoint,) = sorted(job.checkpoints.iterdir())[-1:]
    checkpoint.rename(later.input("checkpoint"))
    train.main(spec.model_copy(update={"resume_from": "models/c"}), later)
    assert _outcome(tmp_path / "later") == _outcome(tmp_path / "whole")


def _outcome(folder: Path) -> tuple[list[float], dict[str, list[float]]]:
    """The losses and all weights, for a comparison to the bit."""
    (weights,) = (folder / "out").glob("*.safetensors")
    return _curve(folder), {name: tensor.flatten().tolist() for name, tensor in load_file(weights).items()}


def test_a_crashed_training_continues_from_the_checkpoint_in_its_folder(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _spec(model, **FULL)
    job = _job(tmp_path)
    with monkeypatch.context() as patch:
        _stop_at(patch, job, 6)
        with pytest.raises(Stopped):
            train.main(spec, job)
    steps: list[int] = []
    advance = Training.advance
    monkeypatch.setattr(Training, "advance", lambda training: (steps.append(training.step), advance(training)))
    train.main(spec, Job(tmp_path))
    assert steps[0] == 6


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [Path.unlink, _cut_off], ids=["missing", "cut off"])
@pytest.mark.parametrize("name", ["state.json", "weights.safetensors", "optimizer.safetensors", "random.safetensors"])
def test_an_incomplete_checkpoint_is_logged_and_training_starts_from_the_beginning(
    tmp_path: Path, model: Path, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spec = _spec(model, max_steps=6, **FULL)
    _train(tmp_path / "whole", spec)
    later = _job(tmp_path / "later")
    (tmp_path / "whole" / "checkpoints" / "step-4").rename(later.input("checkpoint"))
    (later.input("checkpoint") / "_MANIFEST.json").unlink()  # a download does not write the manifest
    damage(later.input("checkpoint") / name)
    train.main(spec.model_copy(update={"resume_from": "models/c"}), later)
    assert _outcome(tmp_path / "later") == _outcome(tmp_path / "whole")
    assert "models/c holds no complete checkpoint; training starts from step 0" in caplog.text


def test_two_checkpoints_are_kept(tmp_path: Path, model: Path) -> None:
    result = _train(tmp_path, _spec(model, checkpoint_every=2, **FULL))
    newest = (result.steps - 1) // 2 * 2
    assert {path.name for path in Job(tmp_path).checkpoints.iterdir()} == {f"step-{newest}", f"step-{newest - 2}"}


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path, model: Path) -> None:
    _train(tmp_path, _spec(model, **FULL))
    with pytest.raises(BadConfiguration, match="written by a training with other rows"):
        train.main(_spec(model, weight_decay=0.5, **FULL), Job(tmp_path))


def test_the_same_seed_trains_the_same_model(tmp_path: Path, model: Path) -> None:
    for name in ("one", "two"):
        _train(tmp_path / name, _spec(model, **LORA))
    assert _outcome(tmp_path / "one") == _outcome(tmp_path / "two")


def test_max_steps_ends_training_before_the_epochs_do(tmp_path: Path, model: Path) -> None:
    assert _train(tmp_path, _spec(model, max_steps=3, **FULL)).steps == 3


def test_a_row_whose_answer_is_too_long_is_dropped_and_counted(tmp_path: Path, model: Path) -> None:
    long = colour_row("sky").turns[1].model_copy(update={"content": "a " * 60})
    rows = [*colour_rows(), Row(id="long", turns=(colour_row("sky").turns[0], long))]
    assert _train(tmp_path, _spec(model, **FULL), rows).metrics["dropped_rows"] == 1


def test_progress_reports_loss_speed_and_remaining_time(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _train(tmp_path, _spec(model, **FULL))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    last = [line for line in lines if line["stage"] == "training"][-1]
    assert last["eta_seconds"] == 0 and {"loss", "tokens_per_second"} <= set(last["metrics"])


TOO_LONG = Row(id="a", turns=tuple(t.model_copy(update={"content": "a b c " * 4}) for t in colour_row("sky").turns))


@pytest.mark.parametrize(
    ("options", "field"),
    [({"method": "lora", "lora_rank": 64}, "lora_rank"), ({"max_length": 8}, "max_length")],
    ids=["a rank larger than the model", "no room for any answer"],
)
def test_an_impossible_setting_is_named(tmp_path: Path, model: Path, options: dict[str, object], field: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        _train(tmp_path, _spec(model, **options), [TOO_LONG])
    assert caught.value.field == field


@pytest.fixture
def diverged(tmp_path: Path) -> Path:
    """A model whose logits are all infinite."""
    folder = save_tiny_model(tmp_path / "diverged")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(float("inf"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_error_about_a_loss_that_is_not_a_number_suggests_a_lower_learning_rate(
    tmp_path: Path, diverged: Path
) -> None:
    with pytest.raises(BadConfiguration, match="training diverged; try a lower learning_rate"):
        _train(tmp_path / "job", _spec(diverged, **FULL))


def test_weights_that_have_diverged_are_never_kept(
    tmp_path: Path, diverged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(tmp_path / "job")
    _stop_at(monkeypatch, job, 1)
    with pytest.raises(BadConfiguration):
        train.main(_spec(diverged, **FULL), job)
    assert not job.checkpoints.exists()


def test_a_row_longer_than_the_models_positions_loses_the_start_of_its_prompt(tmp_path: Path, model: Path) -> None:
    turns = (colour_row("sky").turns[0].model_copy(update={"content": "a " * 200}), colour_row("sky").turns[1])
    rows = [*colour_rows(), Row(id="long", turns=turns)]
    result = _train(tmp_path, _spec(model, max_length=1024, tokens_per_batch=2048, max_steps=2, **FULL), rows)
    (notice,) = result.notices
    assert (notice.rule, notice.rows, notice.places) == ("shortened", 1, ("long",))
    assert "only 128 tokens fit" in notice.text


def test_plain_text_is_refused_if_answers_are_trained(tmp_path: Path, model: Path) -> None:
    with pytest.raises(BadInput, match=r"12 of 12 rows .* plain text, which stage sft .* set stage to pt") as caught:
        _train(tmp_path, _spec(model), TEXTS)
    assert caught.value.field == "stage"


def test_plain_text_among_conversations_is_set_aside(tmp_path: Path, model: Path) -> None:
    result = _train(tmp_path, _spec(model, max_steps=2, **FULL), [*colour_rows(), *TEXTS[:2]])
    assert [(notice.rule, notice.rows) for notice in result.notices] == [("plain_text", 2)]


GREETING = (Turn(role="assistant", content="a b c"), *colour_row("sky").turns)
STRICT = (
    "{% if messages[0].role == 'assistant' %}{{ raise_exception('a user must speak first') }}{% endif %}"
) + TEMPLATE


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """A model whose template refuses conversations that the assistant begins."""
    return save_tiny_model(tmp_path / "strict", template=STRICT)


def test_a_conversation_that_the_assistant_begins_is_trained_on(tmp_path: Path, model: Path) -> None:
    result = _train(tmp_path, _spec(model, max_steps=2, **FULL), [*colour_rows(), Row(id="g", turns=GREETING)])
    assert (result.metrics["sequences"], result.notices) == (7, ())


def test_a_row_that_the_template_refuses_is_set_aside_and_reported(tmp_path: Path, strict: Path) -> None:
    source = Source(file="train/rows.jsonl", line=7)
    rows = [*colour_rows(), Row(id="g", turns=GREETING, source=source)]
    result = _train(tmp_path / "job", _spec(strict, max_steps=2, **FULL), rows)
    (notice,) = result.notices
    assert (notice.rule, notice.rows, notice.places) == ("refused_by_template", 1, ("train/rows.jsonl:7",))
    assert "a user must speak first" in notice.text
    assert result.metrics["dropped_rows"] == 1
    (recorded,) = json.loads((tmp_path / "job" / "out" / "training.json").read_text())["set_aside"]
    assert (recorded["rows"], recorded["ids"]) == (1, ["g"])


def test_half_of_the_rows_may_be_set_aside(tmp_path: Path, strict: Path) -> None:
    rows = [*colour_rows(), *(Row(id=f"g{i}", turns=GREETING) for i in range(6))]
    assert _train(tmp_path / "job", _spec(strict, max_steps=2, **FULL), rows).metrics["dropped_rows"] == 6


def test_more_than_half_of_the_rows_set_aside_is_bad_input(tmp_path: Path, strict: Path) -> None:
    rows = [*colour_rows(), *(Row(id=f"g{i}", turns=GREETING) for i in range(7))]
    with pytest.raises(
        BadInput, match=r"7 of 13 rows .* a user must speak first \(for example row g0, g1, g2\)"
    ) as caught:
        _train(tmp_path / "job", _spec(strict), rows)
    assert caught.value.field == "turns"


def test_rows_that_are_not_to_be_learnt_may_be_most_but_not_all(tmp_path: Path, model: Path) -> None:
    flagged = [
        row.model_copy(update={"turns": (row.turns[0], row.turns[1].model_copy(update={"learn": False}))})
        for row in colour_rows(2)
    ]
    result = _train(tmp_path / "some", _spec(model, max_steps=2, **FULL), [*colour_rows(), *flagged])
    assert [(notice.rule, notice.rows) for notice in result.notices] == [("nothing_to_learn", 12)]
    with pytest.raises(BadInput, match="none of its answers is to be learnt"):
        _train(tmp_path / "all", _spec(model), flagged)


@pytest.fixture
def short_of_tokens(tmp_path: Path) -> Path:
    """A model without embeddings for the tokenizer's last words, "lemon" among them."""
    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer.convert_tokens_to_ids("lemon")).save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    return tmp_path / "short"


def test_a_row_with_a_token_beyond_the_embeddings_is_set_aside(tmp_path: Path, short_of_tokens: Path) -> None:
    row = colour_row("sky").model_copy(update={"id": "known"})
    turns = tuple(turn.model_copy(update={"content": "a b"}) for turn in row.turns)
    rows = [row.model_copy(update={"turns": turns}), colour_row("lemon")]
    result = _train(tmp_path / "job", _spec(short_of_tokens, max_steps=2, **FULL), rows)
    assert [(notice.rule, notice.places) for notice in result.notices] == [("token_without_embedding", ("lemon",))]


def test_a_tokenizer_of_another_model_is_a_bad_configuration(tmp_path: Path, short_of_tokens: Path) -> None:
    with pytest.raises(BadConfiguration, match="use the model's own tokenizer") as caught:
        _train(tmp_path / "job", _spec(short_of_tokens), [colour_row("lemon")])
    assert caught.value.field == "model"


def test_a_template_that_cannot_work_is_a_bad_configuration(tmp_path: Path) -> None:
    broken = save_tiny_model(tmp_path / "broken", template="{% for m in messages %}")
    with pytest.raises(BadConfiguration, match="cannot render a question and its answer"):
        _train(tmp_path / "job", _spec(broken))


def test_a_model_with_named_templates_trains_and_keeps_them(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = named = {"default": TEMPLATE, "tool_use": "{{ tools }}"}
    tiny_model(len(tokenizer)).save_pretrained(tmp_path / "named")
    tokenizer.save_pretrained(tmp_path / "named")
    _train(tmp_path / "job", _spec(tmp_path / "named", max_steps=2, **FULL))
    assert AutoTokenizer.from_pretrained(tmp_path / "job" / "out").chat_template == named


def test_in_pretraining_an_answer_that_is_not_to_be_learnt_is_not_scored(tmp_path: Path, model: Path) -> None:
    flagged = colour_row("lemon").turns[1].model_copy(update={"learn": False})
    turns = (colour_row("lemon").turns[0], flagged, *colour_row("sky").turns)
    chat = ChatFormat(tiny_tokenizer())
    (example,) = make_examples([Row(id="r", turns=turns)], chat, stage=Stage.PT).items
    scored = example.ids[example.weights > 0].tolist()
    assert tiny_tokenizer().decode(scored) == "sky is blue <|end|>"
