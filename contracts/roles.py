"""The roles of accounts on the broker."""

from __future__ import annotations

from enum import StrEnum

from contracts.tasks import Phase


class Role(StrEnum):
    """What an account is for; `contracts.permissions` says what it may do."""

    CONTROL = "control"
    OPTIMIZER = Phase.OPTIMIZE.worker
    TRAINER = Phase.TRAIN.worker
    EVALUATOR = Phase.EVALUATE.worker
    CLIENT = "client"
