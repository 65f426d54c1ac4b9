"""The control plane: it keeps the state of every task and turns events into commands.

It imports `infra` and `contracts` only. Start reading at `machine/machine.py`, then `service.py`, which builds a
control process. Path of an event: consumers → apply (load the task, decide in the machine, write to the store) →
relay → broker.
"""
