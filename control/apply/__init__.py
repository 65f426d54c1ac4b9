"""The only way to change a task: load it, decide in the machine, write to the store, publish the commands.

Path: `submissions.py` or a consumer → `applier.py` (batches of `batcher.py`) → the store → `relay.py` → broker.
"""
