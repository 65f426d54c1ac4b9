"""The chat template of a tokenizer, as a function from messages to text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infra.errors import BadConfiguration
from infra.models.chat.template_process import shared

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
MAX_TEMPLATE_LENGTH = 2**20
"""Largest number of characters of a template."""


class Template:
    """A tokenizer's default template, and its template for tools if it has one.

    Raises BadConfiguration if it has named templates and none is the default, or if one is no text or too long.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        name = tokenizer.name_or_path
        self.owner: str = f"model {name}: " if name else ""
        """Beginning of an error message: the folder of the tokenizer, if it was loaded from one."""
        named = _named_templates(tokenizer)
        self.source: str = named[DEFAULT]
        self._with_tools = named.get(TOOL_USE, self.source)

    def text(self, messages: list[dict[str, Any]], tools: list[Any], *, prompt: bool) -> str:
        """Return the rendered text, with the generation prompt if `prompt`.

        Raises Refused if the template raises an error, and BadConfiguration if it needs too much time or memory.
        """
        values = {
            **self._tokenizer.special_tokens_map,
            "messages": [_with_older_name(message) for message in messages],
            "tools": tools or None,
            "documents": None,
            "add_generation_prompt": prompt,
        }
        try:
            return shared().render(self._with_tools if tools else self.source, values)
        except BadConfiguration as error:
            raise BadConfiguration(f"{self.owner}{error}", field="model") from error


def _with_older_name(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its reasoning also under the name by which some templates read it."""
    reasoning = message.get("reasoning_content")
    return message if reasoning is None else {"thinking": reasoning, **message}


def _named_templates(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    found: Any = tokenizer.chat_template or PLAIN_TEMPLATE
    if isinstance(found, str):
        found = {DEFAULT: found}
    elif isinstance(found, list) and all(isinstance(item, Mapping) for item in found):
        found = {item.get("name"): item.get("template") for item in found}
    if not isinstance(found, Mapping) or not all(isinstance(part, str) for pair in found.items() for part in pair):
        raise _bad("the tokenizer's chat_template is neither a text nor a list of named texts")
    if any(len(template) > MAX_TEMPLATE_LENGTH for template in found.values()):
        raise _bad(f"the tokenizer has a chat template of more than {MAX_TEMPLATE_LENGTH:,} characters")
    if DEFAULT not in found:
        raise BadConfiguration(
            f"the tokenizer has chat templates named {', '.join(sorted(found))}, but none named {DEFAULT}; "
            f"rename the one to train and score with to {DEFAULT} in the tokenizer's files",
            field="model",
        )
    return dict(found)


def _bad(fault: str) -> BadConfiguration:
    return BadConfiguration(f"{fault}; correct it in the tokenizer's files", field="model")
