"""Score a model on held-out rows and write a report.

Start reading at `programs/evaluate.py`. A row passes through `rows.py`, `programs/questions.py`,
`programs/scoring.py`, `row_results.py` and `report.py`, in this order. `metrics.py` compares an answer
with its reference. It imports `infra` and `contracts`; only `programs/` imports model libraries.
"""
