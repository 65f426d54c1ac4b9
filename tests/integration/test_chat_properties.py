"""What holds for every conversation, template and tokenizer."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.rows import Row, Turn
from infra.models.chat_format import PLAIN_TEMPLATE, ChatFormat, Refusal, Rendered, Rule
from tests import chat_templates as templates
from tests.models import TEMPLATE, tiny_tokenizer
from tests.tokenizers import CONTROL_TOKENS, byte_level, prefix_space

PARTS_OF_TEXT = st.sampled_from(
    [*CONTROL_TOKENS, "<|im_", "end|>", "<think>\n", "\n</think>\n\n", "[INST] ", " ", "\t", "\n", "\n\n", "the kettle"]
)
ORDINARY = st.sampled_from(["the kettle", "why ?", "is", "a b"])
CONTENTS = st.lists(st.one_of(PARTS_OF_TEXT, st.text(max_size=8)), max_size=6).map("".join)
LEADS = {"chatml": "", "trimming": "", "alternating": " ", "thinking": "", "parts": "", "plain": " ", "named": ""}
TEMPLATES: dict[str, Any] = {
    "chatml": templates.CHATML,
    "trimming": templates.TRIMMING,
    "alternating": templates.ALTERNATING,
    "thinking": templates.THINKING,
    "parts": templates.PARTS,
    "plain": PLAIN_TEMPLATE,
    "named": {"default": templates.CHATML, "tool_use": templates.TOOLS},
}


@st.composite
def conversations(draw: st.DrawFn) -> Row:
    turns = [Turn(role="system", content=draw(CONTENTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns.append(Turn(role="user", content=draw(CONTENTS)))
        turns.append(Turn(role="assistant", content=draw(CONTENTS), learn=draw(st.booleans())))
    return Row(id="row", turns=(*turns[:-1], turns[-1].model_copy(update={"learn": True})))


@cache
def _chat(kind: str, template: str) -> tuple[Any, ChatFormat]:
    make = {"bytes": byte_level, "spaces": prefix_space, "legacy": lambda: prefix_space(legacy=True)}[kind]
    tokenizer = make()
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer, ChatFormat(tokenizer)


def _harmless(row: Row) -> Row:
    return row.model_copy(update={"turns": tuple(t.model_copy(update={"content": "the"}) for t in row.turns)})


def _render(chat: ChatFormat, row: Row) -> Rendered:
    (rendered,) = chat.render([row])
    assert isinstance(rendered, Rendered), rendered
    return rendered


def _learnt(tokenizer: Any, rendered: Rendered) -> list[str]:
    """The text of each run of scored tokens."""
    pairs = zip(rendered.ids.tolist(), rendered.scored.tolist(), strict=True)
    groups = groupby(pairs, key=lambda pair: pair[1])
    return [tokenizer.decode([token for token, _ in group]) for scored, group in groups if scored]


@pytest.mark.parametrize("template", TEMPLATES)
@given(row=conversations())
@settings(max_examples=60, deadline=None)
def test_the_rendered_text_contains_each_content_and_the_learnt_tokens_are_the_answers(template: str, row: Row) -> None:
    tokenizer, chat = _chat("bytes", template)
    rendered = _render(chat, row)
    text = tokenizer.decode(rendered.ids.tolist())
    assert all(turn.content in text for turn in row.turns)
    end = "<|im_end|>" if "im_end" in str(TEMPLATES[template]) else "</s>"
    answers = [turn.content for turn in row.turns if turn.role == "assistant" and turn.learn]
    assert _learnt(tokenizer, rendered) == [f"{LEADS[template]}{answer}{end}" for answer in answers]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", ["bytes", "spaces", "legacy"])
@given(row=conversations())
@settings(max_examples=40, deadline=None)
def test_no_text_becomes_a_control_token_and_the_prompt_is_a_prefix(kind: str, template: str, row: Row) -> None:
    tokenizer, chat = _chat(kind, template)
    rendered = _render(chat, row)
    control = set(tokenizer.all_special_ids)
    harmless = _render(chat, _harmless(row)).ids.tolist()
    assert sum(token in control for token in rendered.ids.tolist()) == sum(token in control for token in harmless)
    prompt = chat.prompt_ids(row)
    assert isinstance(prompt, list) and rendered.ids[: len(prompt)].tolist() == prompt


@pytest.mark.parametrize("template", ["chatml", "alternating", "named", "plain"])
@pytest.mark.parametrize("kind", ["bytes", "spaces", "legacy"])
@given(pairs=st.lists(st.tuples(ORDINARY, ORDINARY), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_an_ordinary_conversation_has_the_tokens_of_its_text(
    kind: str, template: str, pairs: list[tuple[str, str]]
) -> None:
    tokenizer, chat = _chat(kind, template)
    turns = [
        turn
        for question, answer in pairs
        for turn in (Turn(role="user", content=question), Turn(role="assistant", content=answer))
    ]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = tokenizer.apply_chat_template(messages, chat_template=chat.template, tokenize=False)
    ids = _render(chat, Row(id="row", turns=tuple(turns))).ids.tolist()
    assert tokenizer(text, add_special_tokens=False).input_ids[: len(ids)] == ids


@pytest.mark.parametrize("kind", ["spaces", "legacy"])
@given(row=conversations())
@settings(max_examples=60, deadline=None)
def test_a_tokenizer_with_a_prefix_space_learns_the_answers(kind: str, row: Row) -> None:
    tokenizer, chat = _chat(kind, "chatml")
    answers = [turn.content for turn in row.turns if turn.role == "assistant" and turn.learn]
    # decoding takes the first spaces for a prefix, and writes the boundary of a word as a space
    expected = [f"{answer.replace(chr(0x2581), ' ')}<|im_end|>".lstrip(" ") for answer in answers]
    assert [text.lstrip(" ") for text in _learnt(tokenizer, _render(chat, row))] == expected


@given(row=conversations())
@settings(max_examples=100, deadline=None)
def test_a_tokenizer_of_words_learns_whole_answers_or_refuses_the_row(row: Row) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    (rendered,) = ChatFormat(tokenizer).render([row])
    if isinstance(rendered, Refusal):
        assert rendered.rule is Rule.CONTROL_TOKEN
    else:
        assert len(_learnt(tokenizer, rendered)) == sum(t.role == "assistant" and t.learn for t in row.turns)


@given(text=CONTENTS)
@settings(max_examples=100, deadline=None)
def test_plain_text_is_learnt_as_it_is(text: str) -> None:
    tokenizer, chat = _chat("bytes", "chatml")
    ids = _render(chat, Row(id="t", text=text)).ids.tolist()
    assert tokenizer.decode(ids) == f"{text}</s>"
    assert sum(token in tokenizer.all_special_ids for token in ids) == 1
