"""The HTTP gateway of control.

Start reading at `app.py`, then `tasks.py` (tasks) and `datasets.py` (uploads: control stores the file, the optimizer
reads its rows). Path of a request: route → `Submissions` or the store → `views.py` → answer. Errors go through
`errors.py`.
"""
