"""`treadle up`, `control` and `worker`: open the parts, start the services, stop them in reverse order."""
