"""Generated HTTP requests, valid and invalid, for every operation of the OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys

from tests.attack.target import Target, require

REQUESTS_FOR_EXAMPLES = 100
"""The size of the run is divided by this to get the number of examples of each operation."""


async def generated_requests_for_every_operation(target: Target) -> int:
    """The test of the OpenAPI document at a larger size."""
    examples = max(8, target.size // REQUESTS_FOR_EXAMPLES)
    environ = {**os.environ, "TREADLE_TEST_OPENAPI_EXAMPLES": str(examples)}
    command = [sys.executable, "-m", "pytest", "-q", "tests/integration/test_openapi.py"]
    done = await asyncio.to_thread(subprocess.run, command, env=environ, capture_output=True, text=True, check=False)
    require(done.returncode == 0, done.stdout[-1000:])
    return examples * done.stdout.count(".")


async def documents_that_no_parser_agrees_on(target: Target) -> int:
    """Duplicate keys, deep nesting, huge numbers, other encodings and half characters."""
    bodies = [
        b'{"taskName": "a", "taskName": "b"}',
        b"[" * 100_000,
        b'{"userId": ' + b"9" * 5000 + b"}",
        b'{"taskName": "\\ud800"}',
        b"\xff\xfe{}",
        b'{"userId": NaN}',
        json.dumps({"taskName": "x" * 2**21}).encode(),
    ]
    for body in bodies:
        async with target.client() as client:
            headers = {"content-type": "application/json"}
            answer = await client.post("/api/tasks/standard", content=body, headers=headers)
        require(400 <= answer.status_code < 500, f"{body[:40]!r} was answered {answer.status_code}")
        require(len(answer.content) < 100_000, f"the answer to {body[:40]!r} has {len(answer.content)} bytes")
        require(answer.headers["content-type"] == "application/problem+json", f"{body[:40]!r} got no problem")
    return len(bodies)


async def paths_and_queries_at_random(target: Target) -> int:
    """Traversals, separators, encodings and numbers in paths and queries."""
    rng, tried = random.Random(target.seed), 0
    parts = ["..", "%2e%2e", "%00", "%0d%0a", "'", "a" * 5000, "-1", "9" * 30, "%ff", "{}", "urn:uuid:x", "\u202e"]
    async with target.client() as client:
        for _ in range(max(50, target.size // 20)):
            path = "/api/tasks/" + "/".join(rng.choices(parts, k=rng.randint(1, 3)))
            query = "&".join(f"{rng.choice(['page', 'pageSize', 'userId', 'x'])}={rng.choice(parts)}" for _ in range(2))
            answer = await client.get(f"{path}?{query}")
            require(answer.status_code < 500, f"{path}?{query} was answered {answer.status_code}")
            tried += 1
    return tried
