"""A program that runs as a child process: both ends of the pipe.

The parent's side is `process.py` (start, stop), `pipes.py`, `environment.py` and `outcome.py`; the child's side is
`program.py`, `lifeline.py` and `memory.py`.
"""
