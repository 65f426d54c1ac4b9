"""Programs that run as child processes: the worker's side and the program's side.

The worker's side is `process.py` (run, stop), `running.py` (start by exec), `pipes.py`, `environment.py`, `outcome.py`
and `leftovers.py`; the program's side is `program.py`, `lifeline.py` and `memory.py`; `fork_server/` is between both.
"""
