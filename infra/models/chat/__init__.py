"""Rows as tokens: a model's chat template is rendered once for each shape of conversation, with holes for the texts.

`messages.py` makes messages with holes, `template.py` renders them, `rendering.py` finds the answers in the text,
`cutting.py` cuts it into the segments of a skeleton, `conversations.py` fills the holes, and `encoder.py` makes tokens.
`infra/models/chat_format.py` is the entry.
"""
