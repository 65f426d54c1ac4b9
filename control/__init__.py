"""The state of every task. Control turns events into commands; it imports `infra` and `contracts`.

Start reading at `machine/machine.py`, then `service.py`, which puts a control process together.
Path of an event: consumers → apply (load, decide by the machine, apply in the store) → relay → broker.
"""
