"""The trace of an iteration in the terminal."""
