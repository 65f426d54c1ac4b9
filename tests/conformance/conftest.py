"""Fixtures of this folder's tests."""

from tests.conformance.buses import adapter, bus
from tests.conformance.stores import bench, postgres_bench, store_database
from tests.object_store import objects, s3_settings, store_settings

__all__ = ["adapter", "bench", "bus", "objects", "postgres_bench", "s3_settings", "store_database", "store_settings"]
