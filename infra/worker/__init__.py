"""The worker host, which imports no worker package; each worker package defines a `PhaseWorker` (`plan.py`).

Steps of a command: delivery → claim → job → child process → result → event.
"""
