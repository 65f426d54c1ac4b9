"""`treadle download`: the files of a dataset or of an iteration, checked against their hashes.

Start reading at `command.py`. `layout.py` decides where each file goes, `transfer.py` fetches it, `adapters.py` makes
adapters loadable and explains them.
"""
