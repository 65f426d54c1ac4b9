"""Clients of the outside world: broker, database, object store, child processes. It imports `contracts` only.

Start reading at `bus/port.py` (what a bus must do) and `worker/host.py` (how a worker runs a command).
"""
