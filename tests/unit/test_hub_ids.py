from __future__ import annotations

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.errors import FieldError
from contracts.tasks import ModelSource
from control.apply.models import resolve_model
from infra.models.hub_ids import is_hub_id, is_revision
from infra.settings import Settings
from tests.memory_store import MemoryStore

NO_HUB_IDS = ["./model", "../model", "../..", "a/..", "-/-", ".a/b", "a/b.", "a-/b", "a--b/c", "a/b.git", "a/b/c"]
NO_HUB_IDS += ["/a", "a/", "a//b", f"a/{'b' * 97}", "a/b\n", "a/\u00e9", "a/b c", "a\\b/c"]


def _accepted_by_the_hub(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


@given(st.text("abZ09-_./\u00e9\n\\ ", min_size=1, max_size=12) | st.from_regex(r"[\w.-]{90,99}(/[\w.-]{90,99})?"))
@example("./model")
@example("a/b")
def test_a_hub_id_is_what_the_hub_accepts(name: str) -> None:
    assert is_hub_id(name) == _accepted_by_the_hub(name)


@pytest.mark.parametrize("name", NO_HUB_IDS)
def test_no_path_passes_as_a_hub_id(name: str) -> None:
    assert not is_hub_id(name)


@pytest.mark.parametrize("name", ["main", "v1.0", "refs/pr/3", "feature/x", "a" * 40])
def test_branches_tags_and_commits_are_revisions(name: str) -> None:
    assert is_revision(name)


@pytest.mark.parametrize("name", ["", "..", "../../x", "a/../b", "/main", "a//b", "a\0", "a" * 201])
def test_no_path_passes_as_a_revision(name: str) -> None:
    assert not is_revision(name)


@pytest.mark.parametrize("name", [name for name in NO_HUB_IDS if not name.startswith("/")])
async def test_a_model_that_is_no_hub_id_is_refused_with_what_is_accepted(name: str) -> None:
    found = await resolve_model(name, MemoryStore(lambda _: 60.0), Settings())
    assert isinstance(found, FieldError)
    assert "a hub id (org/name: letters, digits" in found.message


async def test_a_hub_id_is_a_model() -> None:
    assert await resolve_model("org/a_model-1.5", MemoryStore(lambda _: 60.0), Settings()) == ModelSource(
        base="hub:org/a_model-1.5"
    )
