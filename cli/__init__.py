"""The command `treadle`: an HTTP client of the gateway, and the composition root that starts the services.

Start reading at `main.py`. `services/` starts control and the workers; `tasks/`, `download/` and `requests.py` call
the gateway through `client.py`; `dead_letters/`, `retention.py`, `verify.py` and `topology/` connect to the broker, the
database and the object store themselves; `doctor/` checks the installation; `demo/` runs the loop on sample data. Only
this package may import all others.
"""
