"""Fixtures of this folder's tests."""

from tests.gateway import gateway, storing_gateway
from tests.object_store import objects, store_settings

__all__ = ["gateway", "objects", "store_settings", "storing_gateway"]
