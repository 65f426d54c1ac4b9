"""The reaper, with a store and attempts that the test controls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from control.maintenance.reaper import Reaper
from infra.settings import Settings

POISON, GOOD, OTHER = "poison", "good", "other"


class FakeStore:
    """Leads always, and has three expired leases; only their phase counts here."""

    async def try_lead(self, _: str) -> bool:
        return True

    async def expired(self, _: int) -> list[Any]:
        return [SimpleNamespace(name=name, key=SimpleNamespace(phase="train")) for name in (POISON, GOOD, OTHER)]


class FakeLeaseServer:
    """Has served claims for long."""

    def serving_for(self, *, longest_gap: float) -> float:
        return 1e9


async def test_an_attempt_that_cannot_be_handled_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: Any = (FakeStore(), None, FakeLeaseServer(), None)
    reaper, reaped = Reaper(*parts, Settings()), list[str]()

    async def reap(attempt: Any) -> None:
        if attempt.name == POISON:
            raise ValueError(POISON)
        reaped.append(attempt.name)

    monkeypatch.setattr(reaper, "_reap", reap)
    with pytest.raises(ValueError, match=POISON):
        await reaper.tick()
    assert reaped == [GOOD, OTHER]
