"""The object store as one process sees it: away at times, and it tells nobody whether a write came through."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from contracts.artifacts import MANIFEST
from infra.objects import ObjectNotFound, ObjectStoreUnavailable
from tests.simulation.process import Process
from tests.simulation.world import World

REFUSED, UNHEARD = 0.01, 0.01
LATENCY = 0.02


class SimulatedObjects:
    """What the services use of `infra.objects.ObjectStore`, upon the world's blobs."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def put(self, key: str, data: bytes) -> None:
        """Write an object. A manifest is written once, and nothing beside it afterwards, or the same again."""
        await self._reach(key)
        self._demand_once(key, data)
        self._world.blobs[key] = data
        await self._world.point(_point(key), self._process)
        self._answer(key)

    async def get(self, key: str) -> bytes:
        """Read an object. Raises ObjectNotFound."""
        await self._reach(key)
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
        """Keys that begin with `prefix`, sorted, and the bytes of each."""
        await self._reach(prefix)
        return {key: len(data) for key, data in sorted(self._world.blobs.items()) if key.startswith(prefix)}

    async def names(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        return list(await self.sizes(prefix))

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete objects."""
        for key in keys:
            await self._reach(key)
            self._world.blobs.pop(key, None)

    async def ping(self) -> None:
        """Raise ObjectStoreUnavailable where the store is away."""
        await self._reach("ping")

    async def _reach(self, key: str) -> None:
        await asyncio.sleep(self._world.chance.uniform(0, LATENCY))
        if "objects" in self._world.away:
            raise ObjectStoreUnavailable("the object store is away")
        if self._world.happens(REFUSED):
            self._world.fault(f"objects refused {key}")
            raise ObjectStoreUnavailable("the connection was refused")

    def _answer(self, key: str) -> None:
        if self._world.happens(UNHEARD):
            self._world.fault(f"objects unheard {key}")
            raise ObjectStoreUnavailable("the connection was lost before the answer")

    def _demand_once(self, key: str, data: bytes) -> None:
        blobs = self._world.blobs
        complete = any(f"{above}/{MANIFEST}" in blobs for above in PurePosixPath(key).parents)
        self._world.demand(not complete or blobs.get(key) == data, f"{key} was changed after its manifest")


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _point(key: str) -> str:
    if "checkpoint" in key:
        return "mid-checkpoint"
    return "after-upload-before-event" if key.endswith(MANIFEST) else "mid-upload"
