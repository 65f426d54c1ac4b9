"""Compares Treadle's control plane with its peers, on one broker and one database with durable settings."""
