"""`treadle up`, `control` and `worker`: open connections, start services, and stop them in reverse order."""
