"""Fixtures of this folder's tests."""

from tests.object_store import objects, store_settings

__all__ = ["objects", "store_settings"]
