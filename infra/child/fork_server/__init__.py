"""Starts programs by forking a process that has imported them already: `client.py` asks `server.py` over a socket."""
