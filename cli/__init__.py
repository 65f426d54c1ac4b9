"""The command `treadle`: an HTTP client for people, and the composition root of the services. It imports every room.

Start reading at `main.py`. `services/` starts control and workers on real or embedded parts; `tasks/`, `dead_letters/`,
`retention.py` and `requests.py` call the gateway; `doctor/` looks for what is missing; `demo/` runs the loop.
Path of a command: main → a command module → `client.py` → the gateway.
"""
