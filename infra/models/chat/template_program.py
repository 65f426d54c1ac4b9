"""Renders chat templates in a process of its own, which a hostile template can end but not its parent.

A template is a program: the sandbox keeps it from Python's internals, and the kernel limits its time and memory, also
inside a single operation such as `'a' * 10**10`. The template sees what `apply_chat_template` of transformers shows it.
Run as a file, so that nothing but jinja is imported; it reads one JSON request per line and writes one JSON answer.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

TOO_LARGE = "too large"
"""Kind of an answer: the text or the memory that it needs is too large."""
FAILED = "failed"
"""Kind of an answer: the template raised an error."""


class TooLongError(Exception):
    """The text is longer than is allowed."""


class Generation(jinja2.ext.Extension):
    """The block `{% generation %}`, which changes nothing in the text."""

    tags = {"generation"}  # noqa: RUF012  # as jinja declares it

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """Return the content of the block as a block that calls itself."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Any) -> str:  # noqa: ANN401  # a macro of jinja
        return str(caller())


class Dict:
    """`dict` in templates, without its class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:  # noqa: ANN401
        """Return a dict."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:  # noqa: ANN401
        """Return a dict with one value for all keys."""
        return dict.fromkeys(*args)


class Namespace(jinja2.utils.Namespace):
    """`namespace` in templates, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # as jinja's: a template may pass `self=`
        namespace, values = args[0], dict(*args[1:], **kwargs)
        for name in values:
            _require_public(name)
        jinja2.utils.Namespace.__init__(namespace, values)

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401
        _require_public(name)
        super().__setitem__(name, value)


def _require_public(name: object) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot have the attribute {name!r}")


def _raise(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _to_json(
    value: Any,  # noqa: ANN401
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005  # local time, as transformers shows it


@lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    extensions = [Generation, jinja2.ext.loopcontrols]
    environment: SandboxedEnvironment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=extensions
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise, "strftime_now": _now, "dict": Dict(), "namespace": Namespace}
    return environment.from_string(source)


def render(source: str, values: dict[str, Any], longest: int) -> str:
    """The text of the template. Raises TooLongError if it is longer than `longest` characters."""
    parts: list[str] = []
    length = 0
    for part in _compiled(source).generate(values):
        length += len(part)
        if length > longest:
            raise TooLongError
        parts.append(part)
    return "".join(parts)


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": render(request["source"], request["values"], request["longest"])}
    except (MemoryError, TooLongError) as error:
        return {"kind": TOO_LARGE, "error": str(error)}
    except Exception as error:  # noqa: BLE001  # a template is a program, which may raise anything
        return {"kind": FAILED, "error": _one_line(error)}


def _one_line(error: Exception) -> str:
    if isinstance(error, TypeError) and "no loader" in str(error):
        return "it includes, imports or extends another template, and a model has only its own"
    return " ".join(str(error).split()) or type(error).__name__


def main() -> None:
    """Answer requests until standard input ends; each may take the seconds of processor time that it names."""
    memory = int(sys.argv[1])
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])  # without a handler, the signal ends the process
        answer = json.dumps(_answer(request))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
