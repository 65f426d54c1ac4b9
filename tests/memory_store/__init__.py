"""Control's store in memory: the same semantics as PostgreSQL's, for fast tests and for the simulation."""

from tests.memory_store.store import MemoryStore
from tests.memory_store.tables import Tables

__all__ = ["MemoryStore", "Tables"]
