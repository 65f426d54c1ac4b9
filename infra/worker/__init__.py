"""The worker host. It imports no room; a room gives it a `PhaseWorker` (`plan.py`).

Path of a command: delivery → claim → job → child process → result → event.
"""
