"""Finds out with a sample conversation how a template marks turns. A template that cannot render it cannot work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contracts.rows import Row, Turn
from infra.errors import BadConfiguration
from infra.models.chat.control_tokens import ControlTokens
from infra.models.chat.refusal import Refusal
from infra.models.chat.skeleton import Skeleton
from infra.models.chat.skeletons import Skeletons
from infra.models.chat.template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TURNS = (Turn(role="user", content="question"), Turn(role="assistant", content="answer"))
QUESTION_AND_ANSWER = Row(id="question and answer", turns=_TURNS)
_TWO_QUESTIONS = Row(id="two questions", turns=_TURNS * 2)


def probe(tokenizer: PreTrainedTokenizerBase, template: Template) -> tuple[ControlTokens, int]:
    """Return the control tokens, and the first one that the template writes after an answer: eos if there is none.

    Raises BadConfiguration if the template cannot render a question and its answer.
    """
    skeletons = Skeletons(template, ControlTokens(tokenizer), (str(tokenizer.eos_token),))
    skeleton = skeletons.of(QUESTION_AND_ANSWER)
    if isinstance(skeleton, Refusal):
        raise BadConfiguration(
            f"{template.owner}the model's chat template cannot render a question and its answer ({skeleton}); "
            "correct chat_template in the tokenizer's files",
            field="model",
        )
    longer = skeletons.of(_TWO_QUESTIONS)
    framing = _written(skeleton) + ("" if isinstance(longer, Refusal) else _written(longer))
    controls = ControlTokens(tokenizer, framing)
    closing = controls.first_in(_after_answer(skeleton))
    token = tokenizer.eos_token_id if closing is None else tokenizer.convert_tokens_to_ids(closing)
    assert isinstance(token, int)  # of one token
    return controls, token


def _written(skeleton: Skeleton) -> str:
    return "".join(item for segment in skeleton.segments for item in segment.items if isinstance(item, str))


def _after_answer(skeleton: Skeleton) -> str:
    last = skeleton.segments[-1].items[-1]
    return last if isinstance(last, str) else ""
