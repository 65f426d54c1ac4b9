from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from infra.errors import BadConfiguration
from infra.models.chat.refusal import Refused
from infra.models.chat.template_process import TemplateProcess

BIG = 10**10
ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro m(n) %}{% for a in range(9999) %}{{ m(n + 1) if n < 9 }}{% endfor %}{% endmacro %}{{ m(0) }}",
    "{{ 10**(10**8) }}",
    "{{ 10**(messages[0] * 10**8) }}",
    "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
]
HUGE = [
    f"{{{{ 'a' * {BIG} }}}}",
    f"{{{{ messages[1] * {BIG} }}}}",
    f"{{{{ [0] * {BIG} }}}}",
    f"{{{{ 'a' | center({BIG}) }}}}",
    f"{{{{ 'a'.ljust({BIG}) }}}}",
    f"{{{{ '%{BIG}d' % 1 }}}}",
    f"{{{{ '{{:{BIG}}}'.format(1) }}}}",
    f"{{{{ [1] | tojson(indent={BIG}) }}}}",
    f"{{{{ 'a\\nb' | indent({BIG}) }}}}",
    f"{{{{ '\\t'.expandtabs({2**31 - 1}) }}}}",
    "{% for a in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
]
REFUSED = [
    *("{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}"),
    *("{{ range(10**9) }}", "{{ 1 / 0 }}", "{{ nothing.at.all }}", "{% if %}", "{{", "{{ messages | nofilter }}"),
    *("{{ ''.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}", "{{ messages.append(1) }}", "{{ [][9] + 1 }}"),
    *("{{ namespace(_x=1) }}", "{{ raise_exception('no') }}", "{{ '{0.__class__.__mro__}'.format(1) + 1 }}"),
]


@pytest.fixture(scope="module")
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess(seconds=0.3, characters=1000)
    yield process
    process.close()


def _render(process: TemplateProcess, source: str, **values: Any) -> str:
    return process.render(source, {"messages": [1, "a"], **values})


@pytest.mark.parametrize("source", ENDLESS)
def test_a_template_that_takes_long_is_refused_for_good(process: TemplateProcess, source: str) -> None:
    with pytest.raises(
        BadConfiguration, match=r"more than 0\.3 s of processor time for one conversation; correct"
    ) as caught:
        _render(process, source)
    assert caught.value.field == "model"


@pytest.mark.parametrize("source", HUGE)
def test_a_template_that_writes_too_much_is_refused_for_good(process: TemplateProcess, source: str) -> None:
    with pytest.raises(BadConfiguration, match="needs more than is allowed for one conversation"):
        _render(process, source)


@pytest.mark.parametrize("source", REFUSED)
def test_a_template_that_raises_an_error_refuses_its_row(process: TemplateProcess, source: str) -> None:
    with pytest.raises(Refused):
        _render(process, source)


@pytest.mark.parametrize("source", REFUSED[:4])
def test_a_template_that_needs_another_says_so(process: TemplateProcess, source: str) -> None:
    with pytest.raises(Refused, match="includes, imports or extends another template"):
        _render(process, source)


def test_a_text_that_doubles_ends_too(process: TemplateProcess) -> None:
    doubling = "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    with pytest.raises(BadConfiguration):
        _render(process, doubling)


def test_after_a_template_that_takes_long_another_is_rendered(process: TemplateProcess) -> None:
    with pytest.raises(BadConfiguration):
        _render(process, ENDLESS[0])
    assert _render(process, "{{ messages[1] }}") == "a"


def test_the_longest_text_is_not_refused(process: TemplateProcess) -> None:
    assert _render(process, "{{ 'a' * 1000 }}") == "a" * 1000


def test_the_process_gets_no_secrets(process: TemplateProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    started = TemplateProcess()
    started.render("", {})
    assert started._process is not None
    with open(f"/proc/{started._process.pid}/environ") as file:
        environment = file.read()
    started.close()
    assert "HF_TOKEN" not in environment


def test_a_process_that_the_system_ends_is_no_fault_of_the_template(process: TemplateProcess) -> None:
    _render(process, "")
    assert process._process is not None
    os.kill(process._process.pid, 9)
    os.waitid(os.P_PID, process._process.pid, os.WEXITED | os.WNOWAIT)
    assert _render(process, "{{ messages[1] }}") == "a"


@pytest.mark.parametrize("text", ["\ud800", "é\u2028", "a\nb\r\n", "\0"])
def test_any_text_arrives_unchanged(process: TemplateProcess, text: str) -> None:
    assert _render(process, "{{ text }}", text=text) == text
