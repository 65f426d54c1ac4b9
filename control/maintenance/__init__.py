"""Repair and clean-up by loops and commands: reaper, sweep, retention, dead letters."""
