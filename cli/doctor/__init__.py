"""`treadle doctor`: what is missing on this machine, and the command that installs it."""
