"""Messages between the services, HTTP bodies, and the types that they share.

It imports pydantic and the standard library only. Start reading at `tasks.py` (the vocabulary), then `commands.py` and
`events.py`. `topology.py` says which queue gets which messages, `wire.py` turns messages into bytes, and `http.py` has
the bodies of the HTTP API.
"""
