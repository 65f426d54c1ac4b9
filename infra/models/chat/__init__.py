"""Rows as tokens: a model's chat template is rendered once for each shape of conversation, with holes for the texts.

`template.py` renders, `messages.py` makes the messages with holes, `skeleton.py` cuts the rendered text into segments,
`encoder.py` makes tokens of it, and `infra/models/chat_format.py` puts them together.
"""
