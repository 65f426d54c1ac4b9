"""Improve the training rows and record in a ledger what was done to every row.

Start reading at `programs/optimize.py`. A row passes through the upload, `reading/`, `operators/`, `feedback/` (rows
from the pool) and `programs/output.py`, in this order. `worker.py` defines how the worker host runs the program.
It imports `infra` and `contracts`; only `programs/` imports model libraries.
"""
