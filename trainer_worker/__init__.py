"""Train a base model on rows and write a model or an adapter.

It imports `infra` and `contracts`; only `programs/` imports model libraries. Start reading at `programs/train.py`. Rows
pass through `programs/examples.py`, `batching.py` and `objective.py`, in this order. `worker.py` defines how the
worker host runs the program; the host uploads its checkpoints (`infra/worker/checkpoints.py`).
"""
