"""The store of control in memory, with the semantics of the PostgreSQL adapter, for fast tests and the simulation."""

from tests.memory_store.store import MemoryStore
from tests.memory_store.tables import Tables

__all__ = ["MemoryStore", "Tables"]
