"""Every JSON body that the gateway reads."""

from __future__ import annotations

from pydantic import BaseModel

from contracts.checks import CheckRequest
from contracts.http import (
    ContinuousTaskRequest,
    InterventionRequest,
    PauseRequest,
    ReasonRequest,
    RetryRequest,
    StandardTaskRequest,
    StartRequest,
)

REQUEST_BODIES: tuple[type[BaseModel], ...] = (
    StandardTaskRequest,
    ContinuousTaskRequest,
    StartRequest,
    PauseRequest,
    RetryRequest,
    ReasonRequest,
    InterventionRequest,
    CheckRequest,
)
