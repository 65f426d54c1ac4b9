"""How a repeated request is recognized."""

from __future__ import annotations

import hashlib

from contracts.http import StandardTaskRequest
from contracts.options import TimeLimits
from control.apply.submissions import _digest

BODY = StandardTaskRequest(task_name="t", model_name="/m", dataset_id="d", user_id=1)


def test_a_request_that_an_earlier_version_has_taken_is_the_same_request() -> None:
    as_before = BODY.model_dump_json(exclude={"limits"})
    assert _digest(BODY) == hashlib.sha256(as_before.encode()).hexdigest()


def test_a_request_with_other_limits_is_another_request() -> None:
    limited = BODY.model_copy(update={"limits": TimeLimits(stall_seconds=None)})
    assert _digest(limited) != _digest(BODY)
