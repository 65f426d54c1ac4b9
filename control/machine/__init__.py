"""The state machine of a task. Pure: no clock, no randomness, no input or output."""
