"""Clients of the outside world: broker, database, object store, child processes. This package imports only `contracts`.

Start reading at `bus/port.py` (what a bus must do) and `worker/host.py` (how a worker runs a command). A command goes
`bus/` → `worker/` → `child/` → the program, which may import `models/`; its event goes back by `bus/`.
"""
