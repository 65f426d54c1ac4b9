"""Treadle's control plane beside its peers, on one broker and one database, with durable settings everywhere."""
