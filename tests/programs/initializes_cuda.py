"""A program whose imports initialize CUDA, so that it cannot be forked: torch is replaced by a stand-in."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

from pydantic import BaseModel

from infra.child.program import Job

IMPORTED_BY = os.getpid()
sys.modules["torch"] = SimpleNamespace(  # type: ignore[assignment]
    cuda=SimpleNamespace(is_available=lambda: False, _is_in_bad_fork=lambda: os.getpid() != IMPORTED_BY),
    backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
)


class Spec(BaseModel):
    pass


class Result(BaseModel):
    own_imports: bool


def main(spec: Spec, job: Job) -> Result:
    return Result(own_imports=os.getpid() == IMPORTED_BY)
