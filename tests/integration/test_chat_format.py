from __future__ import annotations

import pytest

from contracts.rows import Row, Turn
from infra.errors import BadConfiguration, BadInput
from infra.models.chat_format import PLAIN_TEMPLATE, ChatFormat
from tests.models import TEMPLATE, colour_row, tiny_tokenizer

CONVERSATION = Row(
    id="two",
    turns=(
        Turn(role="system", content="a b"),
        Turn(role="user", content="what colour is sky ?"),
        Turn(role="assistant", content="sky is blue"),
        Turn(role="user", content="what colour is coal ?"),
        Turn(role="assistant", content="black"),
    ),
)
WITHOUT_END = (
    "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)
REWRITTEN = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> a{% endif %}"
)
REFUSING = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE


def _scored(row: Row, template: str | None = TEMPLATE, max_length: int | None = None) -> str:
    """The scored tokens as text."""
    tokenizer = tiny_tokenizer(template=template)
    (rendered,) = ChatFormat(tokenizer).render([row], max_length)
    assert rendered is not None
    return str(tokenizer.decode(rendered.ids[rendered.scored].tolist(), skip_special_tokens=False))


def _all(row: Row, template: str | None = TEMPLATE, max_length: int | None = None) -> list[int]:
    (rendered,) = ChatFormat(tiny_tokenizer(template=template)).render([row], max_length)
    assert rendered is not None
    return [int(token) for token in rendered.ids]


@pytest.mark.parametrize("template", [TEMPLATE, None, WITHOUT_END, REWRITTEN])
def test_the_answer_and_its_end_are_scored_and_nothing_else(template: str | None) -> None:
    assert _scored(colour_row("sky"), template) == "sky is blue <|end|>"


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_every_answer_of_a_conversation_is_scored(template: str | None) -> None:
    assert _scored(CONVERSATION, template) == "sky is blue <|end|> black <|end|>"


def test_an_inner_answer_that_the_template_does_not_end_is_not_scored() -> None:
    assert _scored(CONVERSATION, WITHOUT_END) == "black <|end|>"


@pytest.mark.parametrize("template", [TEMPLATE, None, WITHOUT_END, REWRITTEN])
@pytest.mark.parametrize("row", [colour_row("sky"), CONVERSATION], ids=["one turn", "two turns"])
def test_the_prompt_of_generation_is_a_prefix_of_what_is_trained(row: Row, template: str | None) -> None:
    prompt = ChatFormat(tiny_tokenizer(template=template)).prompt_ids(row)
    assert _all(row, template)[: len(prompt)] == prompt


def test_every_token_of_plain_text_is_scored() -> None:
    assert _scored(Row(id="t", text="a b c")) == "a b c <|end|>"


def test_a_long_prompt_loses_its_start() -> None:
    assert _all(colour_row("sky"), max_length=6) == _all(colour_row("sky"))[-6:]


def test_an_answer_is_never_cut() -> None:
    assert ChatFormat(tiny_tokenizer()).render([colour_row("sky")], 4) == [None]


def test_a_prompt_for_generation_is_cut_at_its_start() -> None:
    chat = ChatFormat(tiny_tokenizer())
    assert chat.prompt_ids(CONVERSATION, 5) == chat.prompt_ids(CONVERSATION)[-5:]


def test_a_leading_bos_stays_when_a_prompt_is_cut() -> None:
    tokenizer = tiny_tokenizer(template=PLAIN_TEMPLATE)
    tokenizer.bos_token = "<|system|>"
    assert ChatFormat(tokenizer).prompt_ids(CONVERSATION, 5)[0] == tokenizer.bos_token_id


def test_generation_stops_at_the_token_that_closes_a_turn() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "<pad>"
    assert ChatFormat(tokenizer).stop_ids == (tokenizer.convert_tokens_to_ids("<|end|>"), tokenizer.eos_token_id)


def test_rows_of_both_kinds_keep_their_order() -> None:
    rows = [Row(id="t", text="a"), colour_row("sky"), Row(id="u", text="a b")]
    lengths = [len(rendered.ids) for rendered in ChatFormat(tiny_tokenizer()).render(rows) if rendered]
    assert (lengths[0], lengths[2]) == (2, 3)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(BadConfiguration, match="no eos_token"):
        ChatFormat(tokenizer)


def test_a_conversation_without_an_answer_is_refused_by_id() -> None:
    row = CONVERSATION.model_copy(update={"turns": CONVERSATION.turns[:-1]})
    with pytest.raises(BadInput, match="row two: expected turns that end with the assistant's answer"):
        ChatFormat(tiny_tokenizer()).render([row])


def test_a_refusal_by_the_template_is_reported() -> None:
    with pytest.raises(BadInput, match=r"row two: .* refuses it: no system turn"):
        ChatFormat(tiny_tokenizer(template=REFUSING)).render([CONVERSATION])
