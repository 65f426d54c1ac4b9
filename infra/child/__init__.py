"""Programs that run as child processes: the worker's side and the program's side.

The worker's side is `process.py` (start, stop), `pipes.py`, `environment.py` and `outcome.py`; the program's side is
`program.py`, `lifeline.py` and `memory.py`.
"""
