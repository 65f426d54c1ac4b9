"""From rows to better rows, with a ledger of what was done to every row.

Start reading at `programs/optimize.py`. Path of a row: upload → reading → operators → feedback (rows from the pool)
→ `programs/output.py`. `worker.py` tells the worker host how to run it.
"""
