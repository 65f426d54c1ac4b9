"""A name that gives no model, or one that exceeds a limit, is an error of the field."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from pydantic import TypeAdapter

from contracts.bounds import MAX_ADAPTERS
from contracts.errors import FieldError
from contracts.tasks import ModelSource
from control.apply.models import resolve_model
from infra.settings import Settings
from tests.memory_store import MemoryStore


class StoredChain(MemoryStore):
    """A store with a model of too many adapters, which an earlier version wrote."""

    async def model(self, task_id: UUID, iteration: int | None) -> ModelSource | None:
        stored = {"base": "path:/m", "adapters": ["models/x"] * (MAX_ADAPTERS + 1)}
        return TypeAdapter(ModelSource).validate_python(stored)


@pytest.mark.parametrize("name", [f"task:{uuid4()}", "long"])
async def test_a_model_that_exceeds_a_limit_is_an_error_of_the_field(name: str) -> None:
    settings = Settings(models={"long": "/" + "x" * 3000})
    answer = await resolve_model(name, StoredChain(settings.ttl), settings)
    assert isinstance(answer, FieldError)
    assert answer.field == "modelName"
    assert "exceeds a limit" in answer.message


async def test_a_model_of_the_hub_has_no_say_about_code() -> None:
    settings = Settings(allow_remote_code=True)
    answer = await resolve_model("org/name", MemoryStore(settings.ttl), settings)
    assert answer == ModelSource(base="hub:org/name")
