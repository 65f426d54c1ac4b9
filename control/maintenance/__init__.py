"""Loops and commands that repair and clean: reaper, sweep, retention, dead letters."""
