"""One way to change a task: load it, let the machine decide, apply the decision in the store, publish the commands.

Path: `submissions.py` or a consumer → `applier.py` (batches of `batcher.py`) → the store → `relay.py` → broker.
"""
