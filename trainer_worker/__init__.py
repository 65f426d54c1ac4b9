"""From rows and a base model to a model or an adapter.

Start reading at `programs/train.py`. `worker.py` tells the worker host how to run it.
"""
