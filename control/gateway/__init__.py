"""The HTTP gateway of control.

Start reading at `app.py`, then `tasks.py` (tasks), `datasets.py` (uploads: control stores the file, the optimizer
reads its rows) and `files.py` (downloads). Path of a request: route → `Submissions` or the store → `views.py` →
answer. Errors go through `errors.py`.
"""
