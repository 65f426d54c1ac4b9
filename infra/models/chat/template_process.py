"""Asks the process that renders chat templates, and starts it again after a template has ended it."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

from infra.errors import BadConfiguration
from infra.models.chat import template_program
from infra.models.chat.refusal import Refused, Rule

MAX_SECONDS = 5.0
"""Processor time for one conversation; legitimate templates take milliseconds."""
MAX_CHARACTERS = 16 * 2**20
"""Largest length of one rendered conversation, in which marks stand for the texts of the row."""
MAX_MEMORY = 2**30
"""Bytes of the rendering process."""
MAX_ERROR_LENGTH = 300
KEPT_VARIABLES = ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
"""Of the environment, which may hold secrets, the rendering process gets only these."""
ADVICE = "correct chat_template in the tokenizer's files"


class TemplateProcess:
    """One process for all templates of this one; threads take turns."""

    def __init__(self, *, seconds: float = MAX_SECONDS, characters: int = MAX_CHARACTERS) -> None:
        self._seconds = seconds
        self._characters = characters
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, source: str, values: dict[str, Any]) -> str:
        """The rendered text.

        Raises Refused if the template raises an error, and BadConfiguration if it needs too much time or memory:
        another row would need them again.
        """
        request = {"source": source, "values": values, "longest": self._characters, "seconds": self._seconds}
        line = json.dumps(request, default=str).encode()
        with self._turn:
            answer = self._answer(line)
        if "text" in answer:
            return answer["text"]
        if answer["kind"] == template_program.TOO_LARGE:
            limits = f"{self._characters:,} characters, {MAX_MEMORY:,} bytes of memory"
            raise _boundless(f"it needs more than is allowed for one conversation ({limits})")
        raise Refused(Rule.TEMPLATE, "the model's chat template refuses it", answer["error"][:MAX_ERROR_LENGTH])

    def close(self) -> None:
        """End the process; the next request starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _answer(self, line: bytes) -> dict[str, str]:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if answer.endswith(b"\n"):
            content: dict[str, str] = json.loads(answer)
            return content
        self._process = None
        process.communicate()
        raise self._ended(process.returncode)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(  # this interpreter and a file of this package
                [sys.executable, "-I", str(Path(template_program.__file__)), str(MAX_MEMORY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            )
        return self._process

    def _ended(self, status: int) -> Exception:
        if status == -signal.SIGPROF:
            return _boundless(f"it takes more than {self._seconds:g} s of processor time for one conversation")
        if status == -signal.SIGKILL:
            return MemoryError("the system ended the process that renders the chat template")
        return _boundless(f"it ended the process that renders it (status {status})")


@cache
def shared() -> TemplateProcess:
    """The process of this program, which ends with it."""
    process = TemplateProcess()
    atexit.register(process.close)
    return process


def _boundless(fault: str) -> BadConfiguration:
    return BadConfiguration(f"the model's chat template cannot be used: {fault}; {ADVICE}", field="model")
