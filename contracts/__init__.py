"""The language of Treadle: what services say to one another and to their users.

Pydantic and the standard library only. Nothing here does I/O.
"""
