"""`treadle doctor`: find what is missing, and print the command that fixes it."""
