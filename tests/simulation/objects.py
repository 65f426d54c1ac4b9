"""The connection of one process to the object store: calls may fail, also after the write was made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from contracts.artifacts import MANIFEST
from infra.objects import ObjectNotFound, ObjectStoreUnavailable
from tests.simulation.process import Process
from tests.simulation.world import World

REFUSED, ANSWER_LOST = 0.01, 0.01
"""Shares of calls that are refused, and of writes that are made while their answer is lost."""
LATENCY = 0.02
"""Maximum seconds of a call."""


class SimulatedObjects:
    """The methods of `infra.objects.ObjectStore` that the services use, on the blobs of the world."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def put(self, key: str, data: bytes) -> None:
        """Write an object. A change of an artifact after its manifest is a violation; the same write again is none."""
        await self._before_call(key)
        self._check_unchanged(key, data)
        self._world.blobs[key] = data
        await self._world.crash_point(_crash_point_of(key), self._process)
        self._lose_answer(key)

    async def get(self, key: str) -> bytes:
        """Read an object. Raises ObjectNotFound or ObjectStoreUnavailable."""
        await self._before_call(key)
        if key not in self._world.blobs:
            raise ObjectNotFound(key)
        return self._world.blobs[key]

    async def put_file(self, key: str, path: Path) -> None:
        """Upload a file."""
        await self.put(key, _read(path))

    async def get_file(self, key: str, path: Path) -> None:
        """Download a file."""
        _write(path, await self.get(key))

    async def sizes(self, prefix: str) -> dict[str, int]:
        """Keys that begin with `prefix`, sorted, with their sizes in bytes."""
        await self._before_call(prefix)
        return {key: len(data) for key, data in sorted(self._world.blobs.items()) if key.startswith(prefix)}

    async def names(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        return list(await self.sizes(prefix))

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects."""
        for key in keys:
            await self._before_call(key)
            self._world.blobs.pop(key, None)

    async def ping(self) -> None:
        """Raise ObjectStoreUnavailable if the store is away."""
        await self._before_call("ping")

    async def _before_call(self, key: str) -> None:
        await asyncio.sleep(self._world.rng.uniform(0, LATENCY))
        if "objects" in self._world.unavailable:
            raise ObjectStoreUnavailable("the object store is away")
        if self._world.happens(REFUSED):
            self._world.fault(f"objects refused {key}")
            raise ObjectStoreUnavailable("the connection was refused")

    def _lose_answer(self, key: str) -> None:
        if self._world.happens(ANSWER_LOST):
            self._world.fault(f"objects answer lost {key}")
            raise ObjectStoreUnavailable("the connection was lost before the answer")

    def _check_unchanged(self, key: str, data: bytes) -> None:
        blobs = self._world.blobs
        complete = any(f"{above}/{MANIFEST}" in blobs for above in PurePosixPath(key).parents)
        self._world.check(not complete or blobs.get(key) == data, f"{key} was changed after its manifest")


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _crash_point_of(key: str) -> str:
    if "checkpoint" in key:
        return "mid-checkpoint"
    return "after-upload-before-event" if key.endswith(MANIFEST) else "mid-upload"
