"""`treadle logs`: what the programs of a task write.

Start reading at `command.py`. `reading.py` finds and fetches logs, `output.py` prints them.
"""
