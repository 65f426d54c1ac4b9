"""The mind: it owns the state of every task and gives the commands."""
