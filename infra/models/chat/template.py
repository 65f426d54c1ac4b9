"""The chat template of a tokenizer, as a function from messages to text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infra.errors import BadConfiguration
from infra.models.chat.refusal import Refused, Rule

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{{ bos_token if bos_token else '' }}"
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}Assistant: {{ message.content }}{{ eos_token }}\n"
    "{% else %}{{ message.role | capitalize }}: {{ message.content }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""Used for tokenizers without a chat template."""
DEFAULT, TOOL_USE = "default", "tool_use"
"""Names of the templates for conversations and for conversations with tools, if a tokenizer has several."""
MAX_ERROR_LENGTH = 300


class Template:
    """A tokenizer's default template, and its template for tools if it has one.

    Raises BadConfiguration if it has named templates and none is the default.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        named = _named_templates(tokenizer)
        self.source: str = named[DEFAULT]
        self._with_tools = named.get(TOOL_USE, self.source)

    def text(self, messages: list[dict[str, Any]], tools: list[Any], *, prompt: bool) -> str:
        """Return the rendered text, with the generation prompt if `prompt`. Raises Refused for any error of it."""
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=tools or None,
                chat_template=self._with_tools if tools else self.source,
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except MemoryError:
            raise
        except Exception as error:  # a template is a program, which may raise anything
            raise Refused(Rule.TEMPLATE, "the model's chat template refuses it", _in_one_line(error)) from error
        return str(text)


def _named_templates(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    found: Any = tokenizer.chat_template or PLAIN_TEMPLATE
    if isinstance(found, str):
        return {DEFAULT: found}
    named = dict(found) if isinstance(found, Mapping) else {item["name"]: item["template"] for item in found}
    if DEFAULT not in named:
        raise BadConfiguration(
            f"the tokenizer has chat templates named {', '.join(sorted(named))}, but none named {DEFAULT}; "
            f"rename the one to train and score with to {DEFAULT} in the tokenizer's files",
            field="model",
        )
    return named


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:MAX_ERROR_LENGTH] or type(error).__name__
