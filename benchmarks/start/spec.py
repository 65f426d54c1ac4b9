"""What goes into the program of the benchmark and what comes out."""

from __future__ import annotations

from pydantic import BaseModel


class Spec(BaseModel):
    """Nothing to choose."""


class Result(BaseModel):
    """`began` is in seconds of the monotonic clock, which all processes of a machine share."""

    began: float
