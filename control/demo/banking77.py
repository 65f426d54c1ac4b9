"""The demo's data: BANKING77 as a user would bring it, dirty and unbalanced, and the two tasks' request bodies.

Everything is drawn from `examples/banking77` with one seed. The sealed test rows come from `test.csv` alone;
rows of `train.csv` that repeat one of them are left out, and tokenizer and pretraining see no dev row either.
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "examples" / "banking77"
INTENTS = ()
RARE = 6
"""Intents that the start almost lacks."""
RARE_ROWS = 2
COMMON_ROWS = 16
WRONG_LABELS = 24
DUPLICATES = 44
POOL_ROWS = 2000
DEV_ROWS = 15
"""Rows of each intent."""
PRETRAINING_DEV = 300
LABEL_BUDGET = 120
ITERATIONS = 5

Question = tuple[str, str]
"""A text and its category."""
