"""From a model and held-out rows to a report.

Start reading at `programs/evaluate.py`. Path of a row: `rows.py` → `programs/scoring.py` → `outcomes.py` → `report.py`.
"""
